"""The client, where OpenEnv's layout has it."""

from metagame import AsyncMetaGameEnv, MetaGameAction, MetaGameEnv, MetaGameObservation

__all__ = ["AsyncMetaGameEnv", "MetaGameAction", "MetaGameEnv", "MetaGameObservation"]
