"""The checks of `metagame check`, in the order in which they are made and shown."""

from metagame.cli.checks import openenv, pool, survival
from metagame.cli.checks.verdict import Check

CHECKS: tuple[Check, ...] = (*openenv.CHECKS, *survival.CHECKS, *pool.CHECKS)
