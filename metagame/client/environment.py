"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, Unpack

from pydantic import BaseModel

from metagame.client.options import (
    BASE_URL,
    READY_TIMEOUT_S,
    ClientKeywords,
    ClientOptions,
    TransportChoice,
)
from metagame.client.shapes import ActionT, ObservationT, action_payload, check_reset, state_of, step_result
from metagame.client.transport import ANSWER_TIMEOUT_S
from metagame.models import MetaGameAction, MetaGameObservation, MetaGameState, StepResult

if TYPE_CHECKING:
    from metagame.client.docker import Container


class AsyncGameEnv(Generic[ActionT, ObservationT]):
    """One session of a game; a subclass names the game's models.

    It connects at first use, and a lost connection, a restarted worker or a lost answer does
    not show: the same request is sent again and happens once. What cannot
    be mended is raised as a MetaGameError that says what to do. Calls of several tasks take
    turns.

    transport: "websocket", "http", or a Transport object, which stays its owner's to close.
    session_id: an existing session, to go on with it, or a name of your choice; without one
        the session is this client's own. A base_url that ends in `/sessions/<id>` names it too.
        Before its first step the client asks once where the session stands, and goes on there.
        A newer socket of somebody else takes the session from this client: SessionTakenOver.
    shared: others step the session as well: what it stands at is not checked.
    headers: sent with every handshake or request, such as {"Authorization": "Bearer ..."}.
    api_key: for a server that wants one; METAGAME_API_KEY unless given, and "" sends none.
    capacity_wait_s: how long to wait for a place in a full pool before CapacityReached.
    message_timeout_s: how long to wait for one answer before the request is sent again.
    deadline_s: how long a call goes on trying after a failure, counted from its beginning.
    A call that was cancelled, or failed with `outcome` "unknown", may have counted: the next
    step raises SessionMoved until `state()` or `reset()` has settled where the session stands.
    Over HTTP it may even count after `state()` has answered, since nothing fences an older
    request off: the step after that then raises SessionMoved once more.
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
        options = ClientOptions(
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
        self._session, self._transport = options.open()
        self._owns_transport = isinstance(transport, str)
        self._container: Container | None = None

    @classmethod
    async def from_docker_image(
        cls,
        image: str,
        provider: None = None,
        *,
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        **client: Unpack[ClientKeywords],
    ) -> Self:
        """A client of a container of its own, started here and ready; needs the `docker` command.

        `close()` removes the container, and so does whatever ends this process, or forgets the
        client. In a forked child the container stays the parent's.

        port: where to publish it on this machine's loopback address; a free port unless given.
        env_vars: the server's settings, such as {"METAGAME_REDIS_URL": ...}.
        client: the constructor's keywords, but for the address.
        Raises ContainerFailed, whose `cause` says what failed, and InvalidRequest for arguments
        that cannot be. `provider` is there for the signature of OpenEnv's clients and not taken.
        """
        from metagame.client import docker  # noqa: PLC0415 - most programs start no container

        order = docker.Order(image, port, env_vars, ready_timeout_s)
        order.check(provider, client)
        container = await docker.start_beside_the_loop(order)
        try:
            env = cls(container.base_url, **client)
        except BaseException:
            container.let_go()
            raise
        env._container = container
        env._session.hopeless = container.ended
        return env

    @property
    def session_id(self) -> str:
        """The session's id; whoever has it can step the session."""
        return self._session.session_id

    async def reset(
        self, seed: int | None = None, episode_id: str | None = None, **options: Any
    ) -> StepResult[ObservationT]:
        """Start an episode; `options` are the game's own."""
        number = check_reset(seed, episode_id, options)
        return self._result(await self._session.reset(number, episode_id, options))

    async def step(self, action: ActionT | Mapping[str, Any]) -> StepResult[ObservationT]:
        """Take one action, a model or a dict of its fields."""
        return self._result(await self._session.step(action_payload(self.action_type, action)))

    async def state(self) -> MetaGameState:
        """Where the session stands."""
        return state_of(await self._session.state())

    async def close(self) -> None:
        """End the session, not a server that others started; again is no error.

        A container of its own goes with it.

        A session that is shared, or was made by `POST /sessions`, or was named and is used over
        HTTP, stays until it is deleted or its time to live has passed.
        """
        try:
            await self._session.close()
        finally:
            try:
                if self._owns_transport:
                    await self._transport.close()
            finally:
                if self._container is not None:
                    await asyncio.to_thread(self._container.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _result(self, answer: Any) -> StepResult[Any]:
        return step_result(self.observation_type, answer)


class AsyncMetaGameEnv(AsyncGameEnv[MetaGameAction, MetaGameObservation]):
    """One session of the Meta Game, asynchronous; AsyncGameEnv says what its arguments mean."""

    action_type = MetaGameAction
    observation_type = MetaGameObservation
