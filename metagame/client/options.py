"""What a client is told when it is made, and the session that follows from it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from metagame.client.http import HttpTransport
from metagame.client.keys import key_headers
from metagame.client.session import Session
from metagame.client.transport import ANSWER_TIMEOUT_S, Transport, parse_base_url
from metagame.client.websocket import WebSocketTransport
from metagame.core.session import check_session_id
from metagame.errors import InvalidRequest

TransportChoice = Literal["websocket", "http"] | Transport

BASE_URL = "http://localhost:8000"
READY_TIMEOUT_S = 60.0
"""How long a container may take to start; twice what the image promises, for busy machines."""


class ClientKeywords(TypedDict, total=False):
    """A constructor's keywords where the address is not the caller's to choose; see AsyncGameEnv."""

    transport: Literal["websocket", "http"]
    session_id: str | None
    shared: bool
    headers: Mapping[str, str] | None
    api_key: str | None
    connect_timeout_s: float
    message_timeout_s: float
    deadline_s: float
    capacity_wait_s: float
    max_message_size_mb: float
    websocket_ping_interval_s: float | None
    websocket_ping_timeout_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The arguments of a client's constructor; see AsyncGameEnv."""

    base_url: str = BASE_URL
    transport: TransportChoice = "websocket"
    session_id: str | None = None
    shared: bool = False
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 10.0
    message_timeout_s: float = ANSWER_TIMEOUT_S
    deadline_s: float = 60.0
    capacity_wait_s: float = 0.0
    max_message_size_mb: float = 100.0
    websocket_ping_interval_s: float | None = None
    websocket_ping_timeout_s: float | None = None

    def open(self) -> tuple[Session, Transport]:
        """A session and the transport made for it; nothing is connected. Raises InvalidRequest."""
        address, named = parse_base_url(self.base_url)
        if self.session_id is not None and named not in {None, self.session_id}:
            message = f"base_url names session {named!r} and session_id names {self.session_id!r}. Give one of them."
            raise InvalidRequest(message)
        given = self.session_id if named is None else named
        minted = given is None
        headers = {**key_headers(self.api_key), **(self.headers or {})}
        transport: Transport
        match self.transport:
            case "websocket":
                transport = WebSocketTransport(
                    address,
                    headers=headers,
                    connect_timeout_s=self.connect_timeout_s,
                    message_timeout_s=self.message_timeout_s,
                    max_message_size_mb=self.max_message_size_mb,
                    ping_interval_s=self.websocket_ping_interval_s,
                    ping_timeout_s=self.websocket_ping_timeout_s,
                )
            case "http":
                transport = HttpTransport(
                    address,
                    headers=headers,
                    connect_timeout_s=self.connect_timeout_s,
                    message_timeout_s=self.message_timeout_s,
                    ends_session=minted,
                )
            case str():
                message = f"transport is {self.transport!r}; it is 'websocket', 'http' or a Transport object."
                raise InvalidRequest(message)
            case _:
                transport = self.transport
        session = Session(
            transport,
            secrets.token_hex(16) if given is None else check_session_id(given),
            minted=minted,
            shared=self.shared,
            server=f"The server at {address.http}" if isinstance(self.transport, str) else "The transport",
            deadline_s=self.deadline_s,
            capacity_wait_s=self.capacity_wait_s,
        )
        return session, transport
