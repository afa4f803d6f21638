"""The session core: what is legal, what a command decides, and how a snapshot is stored as bytes.

Pure: no clock, no I/O, no randomness. It knows games only through their protocol.
"""
