"""A WebSocket server that opens sessions rightly and answers steps as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from metagame.load import Sockets

Answering = Callable[[ServerConnection, dict[str, Any], int], None]
"""What is done with a step's frame, the how manieth it is on its socket."""


@contextmanager
def scripted(answering: Answering, **options: Any) -> Iterator[Sockets]:
    """One socket's worth of `Sockets` to such a server."""

    def talk(socket: ServerConnection) -> None:
        steps = 0
        try:
            for text in socket:
                frame = json.loads(text)
                if frame["type"] == "reset":
                    socket.send('{"type":"observation","data":{"observation":{}}}')
                elif frame["type"] == "close":
                    return
                else:
                    steps += 1
                    answering(socket, frame, steps)
        except ConnectionClosed:
            return

    with serve(talk, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Sockets(addresses=(("127.0.0.1", server.socket.getsockname()[1]),), **{"count": 1} | options)
        finally:
            server.shutdown()
            thread.join()


def right(frame: dict[str, Any], step: int, **more: Any) -> str:
    """The answer as it should be."""
    data = {"observation": {}, "metadata": {"original_message": frame["data"]["message"], "step": step}} | more
    return json.dumps(
        {"type": "observation", "data": data, "request_id": frame.get("request_id")}, separators=(",", ":")
    )
