"""An API key on the wire: its form, the headers that carry it, and the subprotocols that do where there are none.

A browser sets no headers on a WebSocket. It offers subprotocols, and takes a socket only if the server
chooses one of them: so the page offers `metagame`, which is chosen, and beside it one that is the key.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable

HEADER = "X-API-Key"
"""What our client sends: `Authorization` may be taken by a proxy's own login."""
PROTOCOL = "metagame"
FORM = "8 to 256 characters of A-Z a-z 0-9 - . _ ~ + / ="
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{8,256}")
_BEARER = re.compile(rb" *bearer +([^ ]+) *", re.IGNORECASE)
_KEY_PROTOCOL = PROTOCOL + ".key."


def is_key(text: str) -> bool:
    """Whether this has a key's form."""
    return _KEY.fullmatch(text) is not None


def key_protocols(key: str) -> list[str]:
    """What a client offers on a WebSocket in place of a header."""
    return [PROTOCOL, _KEY_PROTOCOL + urlsafe_b64encode(key.encode()).decode().rstrip("=")]


def keys_of_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Whatever a request's headers, with names in small letters, say is a key."""
    found = []
    for name, value in headers:
        if name == b"x-api-key":
            found.append(value)
        elif name == b"authorization" and (bearer := _BEARER.fullmatch(value)) is not None:
            found.append(bearer[1])
    return found


def keys_of_protocols(offered: Iterable[str]) -> list[bytes]:
    """Whatever a handshake's subprotocols say is a key."""
    found = []
    for one in offered:
        if one.startswith(_KEY_PROTOCOL):
            text = one.removeprefix(_KEY_PROTOCOL)
            try:
                found.append(b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
            except ValueError:
                continue
    return found
