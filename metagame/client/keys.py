"""The API key that a server may want, from an argument or the environment, as the headers that carry it."""

from __future__ import annotations

import os

from metagame.errors import InvalidRequest
from metagame.wire.keys import FORM, HEADER, is_key

VARIABLE = "METAGAME_API_KEY"


def key_headers(api_key: str | None = None) -> dict[str, str]:
    """The headers to send: none where there is no key.

    None takes it from METAGAME_API_KEY, and an empty one is none. Raises InvalidRequest, which does not show it.
    """
    key = os.environ.get(VARIABLE, "") if api_key is None else api_key
    if not key:
        return {}
    if not isinstance(key, str) or not is_key(key):
        named = VARIABLE if api_key is None else "api_key"
        message = f"{named} is no API key: a key is {FORM}, without spaces or a line's end around it."
        raise InvalidRequest(message)
    return {HEADER: key}
