"""The synchronous client: for scripts, notebooks and threads."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, Unpack

from pydantic import BaseModel

from metagame.client import loop
from metagame.client.autoenv import callable_by_autoenv
from metagame.client.options import (
    BASE_URL,
    READY_TIMEOUT_S,
    ClientKeywords,
    ClientOptions,
    TransportChoice,
)
from metagame.client.session import Session
from metagame.client.shapes import ActionT, ObservationT, action_payload, check_reset, state_of, step_result
from metagame.client.transport import ANSWER_TIMEOUT_S, Transport
from metagame.models import MetaGameAction, MetaGameObservation, MetaGameState, StepResult

if TYPE_CHECKING:
    from metagame.client.docker import Container

T = TypeVar("T")


class GameEnv(Generic[ActionT, ObservationT]):
    """AsyncGameEnv without `await`: the same arguments, calls and errors.

    It works from any thread, and inside a running event loop too, which it blocks. A forked
    child that uses its parent's client gets a session of its own there and has to reset it,
    unless a session_id was given.
    """

    action_type: ClassVar[type[BaseModel]]
    observation_type: ClassVar[type[BaseModel]]

    def __init__(  # noqa: PLR0913 - a client's knobs are keywords
        self,
        base_url: str = BASE_URL,
        *,
        transport: TransportChoice = "websocket",
        session_id: str | None = None,
        shared: bool = False,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = ANSWER_TIMEOUT_S,
        deadline_s: float = 60.0,
        capacity_wait_s: float = 0.0,
        max_message_size_mb: float = 100.0,
        websocket_ping_interval_s: float | None = None,
        websocket_ping_timeout_s: float | None = None,
    ) -> None:
        self._options = ClientOptions(
            base_url=base_url,
            transport=transport,
            session_id=session_id,
            shared=shared,
            headers=headers,
            api_key=api_key,
            connect_timeout_s=connect_timeout_s,
            message_timeout_s=message_timeout_s,
            deadline_s=deadline_s,
            capacity_wait_s=capacity_wait_s,
            max_message_size_mb=max_message_size_mb,
            websocket_ping_interval_s=websocket_ping_interval_s,
            websocket_ping_timeout_s=websocket_ping_timeout_s,
        )
        self.base_url = base_url
        self._base_url = base_url  # where tools written for OpenEnv's clients look
        self._inherited: list[object] = []
        self._container: Container | None = None
        self._open()

    @classmethod
    def from_docker_image(
        cls,
        image: str,
        provider: None = None,
        *,
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        **client: Unpack[ClientKeywords],
    ) -> Self:
        """A client of a container of its own, as AsyncGameEnv.from_docker_image describes it."""
        from metagame.client import docker  # noqa: PLC0415 - most programs start no container

        order = docker.Order(image, port, env_vars, ready_timeout_s)
        order.check(provider, client)
        container = docker.start(order)
        try:
            env = cls(container.base_url, **client)
        except BaseException:
            container.close()
            raise
        env._container = container
        env._session.hopeless = container.ended
        return env

    @property
    def session_id(self) -> str:
        """The session's id; whoever has it can step the session."""
        return self._here().session_id

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> StepResult[ObservationT]:
        """Start an episode; `options` are the game's own."""
        number = check_reset(seed, episode_id, options)
        return self._result(loop.wait_for(self._here().reset(number, episode_id, options)))

    def step(self, action: ActionT | Mapping[str, Any]) -> StepResult[ObservationT]:
        """Take one action, a model or a dict of its fields."""
        return self._result(loop.wait_for(self._here().step(action_payload(self.action_type, action))))

    def state(self) -> MetaGameState:
        """Where the session stands."""
        return state_of(loop.wait_for(self._here().state()))

    def close(self) -> None:
        """End the session (not a server that others started), as AsyncGameEnv.close does; again is no error."""
        session, owned = self._here(), self._owned
        try:
            loop.wait_for(_close(session, owned))
        finally:
            if self._container is not None:
                self._container.close()

    def sync(self) -> Self:
        """Itself: this client is synchronous already."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._session, transport = self._options.open()
        self._owned = transport if isinstance(self._options.transport, str) else None
        if self._owned is not None:
            # A client that is forgotten gives its connection up; the session lives as long as it may.
            weakref.finalize(self, _give_up, self._owned, self._pid)

    def _here(self) -> Session:
        """The session of this process; a fork's copies of the parent's sockets are left alone."""
        if self._pid != os.getpid():
            self._inherited += [self._session, self._owned]
            self._open()
        return self._session

    def _result(self, answer: Any) -> StepResult[Any]:
        return step_result(self.observation_type, answer)


@callable_by_autoenv
class MetaGameEnv(GameEnv[MetaGameAction, MetaGameObservation]):
    """One session of the Meta Game, synchronous; AsyncGameEnv says what its arguments mean."""

    action_type = MetaGameAction
    observation_type = MetaGameObservation


async def _close(session: Session, owned: Transport | None) -> None:
    try:
        await session.close()
    finally:
        if owned is not None:
            await owned.close()


def _give_up(transport: Transport, pid: int) -> None:
    if pid == os.getpid():
        loop.start_if_running(transport.close)
