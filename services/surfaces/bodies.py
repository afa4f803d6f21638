"""The body of an HTTP request, read whole or refused."""

from __future__ import annotations

from fastapi import Request
from starlette.requests import ClientDisconnect

from metagame.errors import InvalidRequest, TooLarge
from metagame.wire.requests import not_an_object

from .presence import check_present
from .problems import JSON


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The request's JSON body, empty where there is none; raises TooLarge or InvalidRequest."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect:
        message = "The body did not arrive whole."
        raise InvalidRequest(message) from None
    await check_present(request)
    if body and not _is_json(request.headers.get("content-type", "")):
        raise not_an_object(body.decode(errors="replace"))
    return bytes(body)


def _too_large(max_bytes: int) -> TooLarge:
    message = f"A body may have up to {max_bytes} bytes."
    return TooLarge(message, limit_bytes=max_bytes)


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or (media_type.startswith("application/") and media_type.endswith("+json"))


def takes_gzip(request: Request) -> bool:
    """Whether the client takes an answer that is compressed so."""
    for one in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, quality = one.replace(" ", "").partition(";q=")
        if coding in {"gzip", "*"}:
            return quality.strip("0.") != "" if quality else True
    return False
