"""Metagame: what a trainer imports."""
