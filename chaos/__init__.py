"""Load on many sessions while faults happen, and a checker that proves nothing was lost, repeated or swapped.

`checker`, `judge`, `together`, `records`, `journal` and `hits` import nothing but the standard library and each
other: what judges the server shares no code with it.
"""
