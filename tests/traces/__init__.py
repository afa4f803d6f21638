"""Traces: one from the client to Redis, and nothing in it that is a key."""
