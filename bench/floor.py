"""The least that a Python server of sockets can do: what B, and H's cost of more sockets, are held against.

One uvloop protocol a socket, which counts and sends back, and nothing else: no parsing of JSON, no checks, no
session, no store, no ASGI. What a step costs more here at 1,024 sockets than at 64 is the price of so many
sockets to the kernel, the loop and the processor's caches, and no server on this stack can be without it.

`Duties` adds what a step in memory has to do, each thing by the library that the worker has for it, and all of it
in one function: nothing is checked that may go another way, and there are no sessions, only sockets. Its answers
leave as the worker's do (services/surfaces/outbox.py). What a worker costs more than this is its structure; what
this costs, no structure can save.

python -m bench.floor PORT [duties]
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import socket
import struct
import sys
from bisect import bisect_left
from time import monotonic_ns
from typing import cast
from uuid import uuid4

import orjson
import uvloop
from websockets.speedups import apply_mask

from metagame.core.remembered import ENTRY_BYTES, REMEMBERED
from metagame.games.echo import EchoGame
from services.meter.layout import DURATIONS_NS
from services.surfaces.outbox import Outbox

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT = 0x81
_RESET = b'{"type":"observation","data":{"observation":{}}}'
_ID = b'"request_id":"'
_QUOTE = ord('"')
_STEP = b'"step"'
_VALIDATE = EchoGame().action_type.__pydantic_validator__.validate_python
_HASH = hashlib.blake2b(digest_size=8)
_GENERATION = struct.Struct(">QQ")
_COUNT = struct.Struct(">I")
_OUTBOX = Outbox()
_RANDOM = random.Random()  # noqa: S311 - as the worker's generations


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


class Duties(Floor):
    """The same with a step's duties in a straight line."""

    __slots__ = ("_body", "_counts", "_episode_id", "_expires_ns", "_generation", "_remembered")

    def __init__(self) -> None:
        super().__init__()
        self._counts = memoryview(bytearray(8 * (len(DURATIONS_NS) + 2))).cast("Q")
        self._episode_id = str(uuid4())
        self._remembered = self._body = b""
        self._generation = bytes(_GENERATION.size)
        self._expires_ns = 0

    def data_received(self, data: bytes) -> None:
        """Answer a step by doing all of it, and all else as `Floor` does."""
        began_ns = monotonic_ns()
        begins = 8 if data[1] & 0x7F == 126 else 6
        said = apply_mask(data[begins:], data[begins - 4 : begins]) if self._open else b""
        if b'"step"' not in said:
            super().data_received(data)
            return
        frame = orjson.loads(said.decode())
        action, request_id = frame["data"], frame["request_id"]
        message = _VALIDATE(action).message
        named, ordered = _HASH.copy(), _HASH.copy()
        named.update(request_id.encode())
        ordered.update(orjson.dumps(action, None, orjson.OPT_SORT_KEYS))
        identity = named.digest()
        if self._remembered.find(identity) >= 0:
            self._transport.close()
            return
        step = self._steps = self._steps + 1
        length = len(message)
        metadata = {"original_message": message, "step": step}
        state = orjson.dumps([self._episode_id, step, False, step], None, orjson.OPT_SORT_KEYS)
        kept = [{"echoed_message": message, "message_length": length}, length / 10, False, metadata]
        answer = orjson.dumps(kept, None, orjson.OPT_SORT_KEYS)
        number = _GENERATION.unpack(self._generation)[0]
        self._generation = _GENERATION.pack(number + 1, _RANDOM.getrandbits(64))
        self._body = b"1" + _COUNT.pack(len(state)) + state + answer
        entry = identity + ordered.digest() + _COUNT.pack(step)
        self._remembered = entry + self._remembered[: (REMEMBERED - 1) * ENTRY_BYTES]
        seen = {"metadata": metadata, "echoed_message": message, "message_length": length}
        told = {"observation": seen, "reward": length / 10, "done": False, "metadata": metadata}
        text = orjson.dumps({"type": "observation", "data": told, "request_id": request_id})
        _OUTBOX.put(self._transport, struct.pack("!BBH", _TEXT, 126, len(text)) + text)
        took_ns = monotonic_ns() - began_ns
        self._expires_ns = began_ns
        self._counts[bisect_left(DURATIONS_NS, took_ns)] += 1
        self._counts[-1] += took_ns


async def serve(port: int, kind: type[Floor]) -> None:
    """Serve on loopback until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(kind, "127.0.0.1", port, backlog=socket.SOMAXCONN)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Duties if sys.argv[2:] == ["duties"] else Floor))
