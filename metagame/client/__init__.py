"""The client: MetaGameEnv and AsyncMetaGameEnv, and the transports they use."""

from metagame.client.environment import AsyncGameEnv, AsyncMetaGameEnv
from metagame.client.http import HttpTransport
from metagame.client.local import LocalTransport
from metagame.client.synchronous import GameEnv, MetaGameEnv
from metagame.client.transport import ConnectionLost, Transport
from metagame.client.websocket import WebSocketTransport
from metagame.models import MetaGameAction, MetaGameObservation, MetaGameState, StepResult

__all__ = [
    "AsyncGameEnv",
    "AsyncMetaGameEnv",
    "ConnectionLost",
    "GameEnv",
    "HttpTransport",
    "LocalTransport",
    "MetaGameAction",
    "MetaGameEnv",
    "MetaGameObservation",
    "MetaGameState",
    "StepResult",
    "Transport",
    "WebSocketTransport",
]
