"""The page's files: read out of the package once each, small on the wire, and never older than the server.

A browser asks each time whether the file it has is still the one (`no-cache` and an ETag of the contents), so that a
deploy is seen at once, and while workers of two releases serve side by side nothing of either is kept.

What a page of ours may do stands in its Content-Security-Policy: load from and talk to where it came from, and no more;
no inline script or style, no form that leaves, no other page's frame. The exception is Hugging Face, which shows a
Space in a frame of huggingface.co. There a frame's cookies are not sent, and the page uses none: a click that somebody
lured from a visitor could at most reach the session whose key is in that very frame's address.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response

from .bodies import takes_gzip

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FRAMED_BY = "'self' https://huggingface.co https://*.huggingface.co"
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        f"frame-ancestors {FRAMED_BY}",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "Accept-Encoding",
    "x-content-type-options": "nosniff",
}
_FOLDER = files(__package__) / "static"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is sent; `tag` is weak, for it names the contents, not their encoding."""

    body: bytes
    compressed: bytes
    tag: str
    media_type: str


def names() -> frozenset[str]:
    """The files that there are."""
    return frozenset(entry.name for entry in _FOLDER.iterdir() if PurePath(entry.name).suffix in MEDIA_TYPES)


@cache
def load(name: str) -> StaticFile:
    """One of them."""
    body = (_FOLDER / name).read_bytes()
    tag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
    return StaticFile(body, gzip.compress(body, mtime=0), tag, MEDIA_TYPES[PurePath(name).suffix])


def send(name: str, request: Request) -> Response:
    """The file, or that the browser has it already."""
    file = load(name)
    headers = HEADERS | {"etag": file.tag}
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {file.tag, file.tag.removeprefix("W/"), "*"}:
        return Response(status_code=304, headers=headers)
    if takes_gzip(request):
        return Response(file.compressed, headers=headers | {"content-encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
