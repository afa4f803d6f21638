"""The Meta Game environment, as OpenEnv lays environments out: the names of `metagame`."""

from metagame import MetaGameAction, MetaGameEnv, MetaGameObservation, MetaGameState

__all__ = ["MetaGameAction", "MetaGameEnv", "MetaGameObservation", "MetaGameState"]
