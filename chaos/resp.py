"""One command to one Redis, by the protocol's own words; what looks at Redis shares no code with the server."""

from __future__ import annotations

import asyncio

Reply = bytes | int | None | list["Reply"]


class RedisError(Exception):
    """Redis answered with an error."""


async def ask(port: int, *words: str | bytes, timeout_s: float = 5.0) -> Reply:
    """The reply on a connection of its own; raises OSError, TimeoutError or RedisError."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    command = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
        try:
            writer.write(command)
            return await _reply(reader)
        except asyncio.IncompleteReadError as cut:
            raise ConnectionError(str(cut)) from None
        finally:
            writer.close()


async def _reply(reader: asyncio.StreamReader) -> Reply:
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    match kind:
        case b"+":
            return rest
        case b"-":
            raise RedisError(rest.decode(errors="replace"))
        case b":":
            return int(rest)
        case b"$":
            return None if int(rest) < 0 else (await reader.readexactly(int(rest) + 2))[:-2]
        case b"*":
            return [await _reply(reader) for _ in range(int(rest))]
    message = f"not a reply: {line!r}"
    raise RedisError(message)
