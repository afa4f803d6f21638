"""The server: what an operator runs. In the wheel this package is called `metagame_server`."""
