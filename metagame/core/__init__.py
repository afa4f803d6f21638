"""The session core: what is legal, what a command decides, what is remembered, and all of it as bytes.

Pure: no clock, no I/O, no randomness. It knows games only through their protocol.
"""
