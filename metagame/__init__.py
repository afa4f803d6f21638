"""Metagame: what a trainer imports.

    from metagame import MetaGameAction, MetaGameEnv

Importing this package loads nothing else; each name brings what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metagame._version import __version__

if TYPE_CHECKING:
    from metagame.client.environment import AsyncGameEnv, AsyncMetaGameEnv
    from metagame.client.http import HttpTransport
    from metagame.client.local import LocalTransport
    from metagame.client.synchronous import GameEnv, MetaGameEnv
    from metagame.client.transport import ConnectionLost, Transport
    from metagame.client.websocket import WebSocketTransport
    from metagame.errors import (
        AnswerForgotten,
        CapacityReached,
        ContainerFailed,
        EpisodeOver,
        Forbidden,
        GameFailed,
        InvalidAction,
        InvalidJson,
        InvalidRequest,
        InvalidSessionId,
        MetaGameError,
        NoEpisode,
        ProtocolError,
        RequestConflict,
        SessionError,
        SessionLost,
        SessionMoved,
        SessionTakenOver,
        TooLarge,
        Unauthorized,
        Unavailable,
        UnknownFrameType,
    )
    from metagame.models import MetaGameAction, MetaGameObservation, MetaGameState, StepResult

__all__ = [
    "AnswerForgotten",
    "AsyncGameEnv",
    "AsyncMetaGameEnv",
    "CapacityReached",
    "ConnectionLost",
    "ContainerFailed",
    "EpisodeOver",
    "Forbidden",
    "GameEnv",
    "GameFailed",
    "HttpTransport",
    "InvalidAction",
    "InvalidJson",
    "InvalidRequest",
    "InvalidSessionId",
    "LocalTransport",
    "MetaGameAction",
    "MetaGameEnv",
    "MetaGameError",
    "MetaGameObservation",
    "MetaGameState",
    "NoEpisode",
    "ProtocolError",
    "RequestConflict",
    "SessionError",
    "SessionLost",
    "SessionMoved",
    "SessionTakenOver",
    "StepResult",
    "TooLarge",
    "Transport",
    "Unauthorized",
    "Unavailable",
    "UnknownFrameType",
    "WebSocketTransport",
    "__version__",
]

_HOMES = {
    "AsyncGameEnv": "client.environment",
    "AsyncMetaGameEnv": "client.environment",
    "ConnectionLost": "client.transport",
    "GameEnv": "client.synchronous",
    "HttpTransport": "client.http",
    "LocalTransport": "client.local",
    "MetaGameAction": "models",
    "MetaGameEnv": "client.synchronous",
    "MetaGameObservation": "models",
    "MetaGameState": "models",
    "StepResult": "models",
    "Transport": "client.transport",
    "WebSocketTransport": "client.websocket",
}
"""Where each name lives; the rest are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"metagame.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
