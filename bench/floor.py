"""The least that a Python server of sockets can do: what H's cost of more sockets is held against.

One uvloop protocol a socket, which counts and sends back, and nothing else: no parsing of JSON, no checks, no
session, no store, no ASGI. What a step costs more here at 1,024 sockets than at 64 is the price of so many
sockets to the kernel, the loop and the processor's caches, and no server on this stack can be without it.

python -m bench.floor PORT
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import sys
from typing import cast

import uvloop
from websockets.speedups import apply_mask

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT = 0x81
_RESET = b'{"type":"observation","data":{"observation":{}}}'
_ID = b'"request_id":"'
_QUOTE = ord('"')


class Floor(asyncio.Protocol):
    """One socket; it takes whole frames only, as the bench sends them."""

    __slots__ = ("_open", "_steps", "_transport")

    def __init__(self) -> None:
        self._open = False
        self._steps = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer the handshake, and then each frame."""
        if not self._open:
            self._open = True
            key = data.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            accepts = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - RFC 6455 has it so
            head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            self._transport.write(head + b"Sec-WebSocket-Accept: " + accepts + b"\r\n\r\n")
            return
        begins = 8 if data[1] & 0x7F == 126 else 6
        said = apply_mask(data[begins:], data[begins - 4 : begins])
        if b'"step"' in said:
            self._steps += 1
            at = said.find(_ID) + len(_ID)
            identity = said[at : said.index(_QUOTE, at)]
            self._send(b'{"type":"observation","data":{"step":%d},"request_id":"%b"}' % (self._steps, identity))
        elif b'"reset"' in said:
            self._send(_RESET)
        else:
            self._transport.close()

    def _send(self, text: bytes) -> None:
        self._transport.write(bytes((_TEXT, len(text))) + text)


async def serve(port: int) -> None:
    """Serve on loopback until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Floor, "127.0.0.1", port, backlog=socket.SOMAXCONN)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
