"""Whole servers in threads of the test's process: one app each, on ports that the kernel picks."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn

from metagame.games import Game
from services.app import create_app
from services.settings import Settings
from services.store.base import SessionStore
from services.surfaces.protocol import SocketProtocol

START_S = 20.0

Channel = Literal["direct", "asgi"]
"""How sockets reach the surface: as under our own server, or as under any other."""


@dataclass(frozen=True)
class Pool:
    """The workers of one pool, by their URLs."""

    urls: tuple[str, ...]

    def url(self, turn: int) -> str:
        """The worker whose turn it is."""
        return self.urls[turn % len(self.urls)]


@contextmanager
def running_app(
    game: Game | None = None, *, channel: Channel = "direct", store: SessionStore | None = None, **settings: Any
) -> Iterator[str]:
    """One worker's URL; stopped with the block."""
    app = create_app(Settings(**settings), game, store)
    # asyncio turns Nagle's algorithm off only where the protocol is spelled out: 40 ms an answer otherwise.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http="httptools",
        ws=SocketProtocol if channel == "direct" else "websockets-sansio",
        ws_ping_interval=None,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_S)
        listener.close()


@contextmanager
def running_pool(
    workers: int, game: Game | None = None, *, channel: Channel = "direct", **settings: Any
) -> Iterator[Pool]:
    """Some workers with the same settings; more than one need a `redis_url`."""
    with ExitStack() as stack:
        yield Pool(tuple(stack.enter_context(running_app(game, channel=channel, **settings)) for _ in range(workers)))
