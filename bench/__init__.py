"""CPU time per step, beside OpenEnv's reference server in the same run.

Microseconds belong to a machine; the ratio travels. So every round measures each server in
turn, under the same load, and the median of the rounds' ratios counts.
"""
