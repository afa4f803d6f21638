"""What OpenEnv's AutoEnv gets from our client when it calls it as it calls its own: an EnvClient.

AutoEnv finds `metagame.client.MetaGameEnv` by its name, passes a `provider` to the constructor (None, mostly) and a
`wait_timeout` to `from_docker_image`, awaits what that returns, and hands out a client that its users may await, or
not. So a call with these is a call for `metagame.openenv`; all others make the client that is decorated.
"""

from __future__ import annotations

import inspect
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

ClientT = TypeVar("ClientT")


def callable_by_autoenv(native: type[ClientT]) -> type[ClientT]:
    """The class itself, which makes another kind of client where AutoEnv calls it; subclasses do not."""
    signature = inspect.signature(native)
    started = native.from_docker_image.__func__  # type: ignore[attr-defined]  # every client has it

    def new(cls: type[Any], *arguments: Any, **keywords: Any) -> Any:
        if cls is native and "provider" in keywords:
            return _openenv(native)(*arguments, **keywords)
        return object.__new__(cls)

    @wraps(started)
    def from_docker_image(cls: type[Any], *arguments: Any, **keywords: Any) -> Any:
        if cls is native and "wait_timeout" in keywords:
            return _openenv(native).from_docker_image(*arguments, **keywords)
        return started(cls, *arguments, **keywords)

    for name, value in (
        ("__new__", new),
        ("__signature__", signature),
        ("from_docker_image", classmethod(from_docker_image)),
    ):
        setattr(native, name, value)
    return native


def _openenv(native: type[Any]) -> Any:
    """The class of the same name, imported by name: it stands above this one, and needs the `openenv` extra."""
    return getattr(import_module("metagame.openenv"), native.__name__)
