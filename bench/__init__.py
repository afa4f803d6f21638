"""What Metagame's speed is measured against, and what a pool of a size needs (`bench.sizing`).

Microseconds belong to a machine; the ratio to what the same machine does in the same minute travels.
So contestants are measured in turn, round by round, and the median of the rounds' ratios counts. CPU time is
compared rather than wall time wherever it can be: it scatters less while a machine has other work.
"""
