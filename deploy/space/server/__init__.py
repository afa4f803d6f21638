"""The server, where OpenEnv's layout has it."""
