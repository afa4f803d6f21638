"""`python -m metagame` is the `metagame` command."""

from metagame.cli import main

main()
