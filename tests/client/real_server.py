"""The server itself, in this process on a free port, with the embedded store."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from metagame.games import Game
from services.app import create_app
from services.settings import Settings


@contextmanager
def real_server(game: Game | None = None, *, port: int = 0, **settings: int) -> Iterator[str]:
    """Serve on a thread of its own until the block ends; the server's URL."""
    app = create_app(Settings(**settings), game)  # type: ignore[arg-type]  # whole numbers, by name
    config = uvicorn.Config(
        app, http="httptools", ws="websockets-sansio", ws_max_size=2**20, log_level="critical", lifespan="on"
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
