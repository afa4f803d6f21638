"""The models, where OpenEnv's layout has them."""

from metagame import MetaGameAction, MetaGameObservation, MetaGameState

__all__ = ["MetaGameAction", "MetaGameObservation", "MetaGameState"]
