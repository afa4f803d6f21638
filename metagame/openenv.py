"""OpenEnv's own client class for the Meta Game, for code that wants an `EnvClient`. Needs the `openenv` extra.

What an EnvClient does around a session is OpenEnv's: synchronous and asynchronous use, providers, `new_session`.
The session is ours: it goes on after a lost connection or a restarted worker, and each step happens once. That needs
methods of OpenEnv's that begin with an underscore, whence the extra's narrow range of releases.

Errors are as OpenEnv's clients raise them, ConnectionError and RuntimeError with a code; what happened exactly, with
its fields, is the MetaGameError that is their `__cause__`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel

try:
    from openenv.core.client_types import StepResult  # type: ignore[import-not-found]  # checked without the extra
    from openenv.core.env_client import EnvClient, _BootstrapResult  # type: ignore[import-not-found]  # likewise
except ImportError as missing:
    _MESSAGE = 'metagame.openenv needs OpenEnv 0.10: pip install "openenv-metagame[openenv]"'
    raise ImportError(_MESSAGE) from missing

from metagame.client import loop
from metagame.client.keys import key_headers
from metagame.client.options import ClientOptions
from metagame.client.session import Session
from metagame.client.shapes import action_payload, check_reset
from metagame.errors import MetaGameError, ProtocolError, SessionLost, Unavailable, outward
from metagame.games import Observation
from metagame.models import MetaGameAction, MetaGameObservation, MetaGameState

__all__ = ["GameEnv", "MetaGameAction", "MetaGameEnv", "MetaGameObservation", "MetaGameState"]

T = TypeVar("T")


class GameEnv(EnvClient):  # type: ignore[misc]  # its base is unknown without the extra
    """One session of a game as an EnvClient; a subclass names the game's models.

    The arguments are EnvClient's, and session_id, shared, api_key, deadline_s and
    capacity_wait_s are AsyncGameEnv's. `message_timeout_s` is how long to wait for one answer before the same
    request is sent again. Children of `new_session` have sessions of their own.
    """

    action_type: ClassVar[type[BaseModel]]
    observation_type: ClassVar[type[BaseModel]]

    def __init__(  # noqa: PLR0913, PLR0917 - EnvClient's own arguments, by position too
        self,
        base_url: str | None = None,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = 60.0,
        max_message_size_mb: float = 100.0,
        websocket_ping_interval_s: float | None = None,
        websocket_ping_timeout_s: float | None = None,
        provider: Any = None,
        mode: str | None = None,
        headers: dict[str, str] | None = None,
        *,
        session_id: str | None = None,
        shared: bool = False,
        api_key: str | None = None,
        deadline_s: float = 60.0,
        capacity_wait_s: float = 0.0,
    ) -> None:
        headers = {**key_headers(api_key), **(headers or {})}  # where new_session finds it for its children
        super().__init__(
            base_url=base_url,
            connect_timeout_s=connect_timeout_s,
            message_timeout_s=message_timeout_s,
            max_message_size_mb=max_message_size_mb,
            websocket_ping_interval_s=websocket_ping_interval_s,
            websocket_ping_timeout_s=websocket_ping_timeout_s,
            provider=provider,
            mode=mode,
            headers=headers,
        )
        self._knobs: dict[str, Any] = {
            "session_id": session_id,
            "shared": shared,
            "deadline_s": deadline_s,
            "capacity_wait_s": capacity_wait_s,
        }
        self._played: Any = None  # a session and its transport

    @classmethod
    def from_docker_image(cls, image: str, provider: Any = None, **options: Any) -> Bootstrap:
        """A client of a container of its own, which starts when the handle is awaited, `.sync()`ed or first called."""
        return Bootstrap(lambda: cls._bootstrap_container(image, provider, **options))

    @classmethod
    def from_env(cls, repo_id: str, *, use_docker: bool = True, provider: Any = None, **options: Any) -> Bootstrap:
        """A client of a Space that runs here, in a container or by `uv run`; starts as from_docker_image does."""
        return Bootstrap(lambda: cls._bootstrap_env(repo_id, use_docker=use_docker, provider=provider, **options))

    @property
    def session_id(self) -> str | None:
        """The session's id; None until it is connected."""
        return None if self._played is None else self._played[0].session_id

    def _claim_execution_mode(self, mode: str) -> None:
        """Either, at any time: our session is tied to no event loop, as OpenEnv's socket is."""
        self._execution_mode = mode

    async def _connect_async(self) -> Self:
        """Reach the server, once; raises ConnectionError. What is lost later connects again by itself."""
        if self._played is not None:
            return self
        try:
            self._start_provider_if_needed()
        except Exception:
            if not self._provider_cleanup_pending:
                with suppress(Exception):
                    await self._close_async()
            raise
        address = str(self._ws_url).removesuffix("/ws")  # OpenEnv's form of base_url, which may come without http://
        session, transport = self._played = ClientOptions(
            base_url=address,
            headers=self._headers,
            connect_timeout_s=self._connect_timeout,
            message_timeout_s=self._message_timeout,
            max_message_size_mb=self._max_message_size / 2**20,
            websocket_ping_interval_s=self._websocket_ping_interval_s,
            websocket_ping_timeout_s=self._websocket_ping_timeout_s,
            api_key="",  # it is among the headers
            **self._knobs,
        ).open()
        # A client that is forgotten gives its connection up; the session lives as long as it may.
        weakref.finalize(self, loop.start_if_running, transport.close)
        try:
            with suppress(SessionLost):  # a name that no session has yet
                await loop.await_from_here(session.state())
        except Unavailable as error:
            await self._close_async()
            message = f"Failed to connect to {address}: {error}"
            raise ConnectionError(message) from error
        except MetaGameError as error:
            raise _as_openenv_says(error) from error
        return self

    async def _disconnect_async(self) -> None:
        """End the session and its connection; the next call makes another session."""
        played, self._played = self._played, None
        if played is not None:
            session, transport = played
            await loop.await_from_here(session.close())
            await loop.await_from_here(transport.close())

    async def _reset_async(self, **options: Any) -> StepResult:
        seed, episode_id = options.pop("seed", None), options.pop("episode_id", None)
        number = check_reset(seed, episode_id, options)
        return await self._observed(lambda session: session.reset(number, episode_id, options))

    async def _step_async(self, action: Any, **_: Any) -> StepResult:
        payload = self._step_payload(action)
        return await self._observed(lambda session: session.step(payload))

    async def _state_async(self) -> MetaGameState:
        stands = await _as_openenv_does((await self._session_here()).state())
        return self._parse_state({"episode_id": stands.episode_id, "step_count": stands.step_count})

    def _step_payload(self, action: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
        return action_payload(self.action_type, action)

    def _parse_result(self, payload: dict[str, Any]) -> StepResult:
        reward, done = payload.get("reward"), bool(payload.get("done"))
        seen = dict(payload.get("observation") or {})
        metadata = payload.get("metadata") or seen.get("metadata") or {}
        seen.update(reward=reward, done=done, metadata=metadata)
        known = {name: value for name, value in seen.items() if name in self.observation_type.model_fields}
        observation = self.observation_type.model_validate(known)
        return StepResult(observation=observation, reward=reward, done=done, metadata=metadata)

    def _parse_state(self, payload: dict[str, Any]) -> MetaGameState:
        return MetaGameState.model_validate(payload)

    async def _observed(self, call: Callable[[Session], Coroutine[Any, Any, Observation]]) -> StepResult:
        answer = await _as_openenv_does(call(await self._session_here()))
        return self._parse_result(
            {
                "observation": dict(answer.fields),
                "reward": answer.reward,
                "done": answer.done,
                "metadata": answer.metadata,
            }
        )

    async def _session_here(self) -> Session:
        if self._played is None:
            await self._connect_async()
        session: Session = self._played[0]
        return session


class MetaGameEnv(GameEnv):
    """One session of the Meta Game as an EnvClient; GameEnv says what its arguments mean."""

    action_type = MetaGameAction
    observation_type = MetaGameObservation


class Bootstrap(_BootstrapResult):  # type: ignore[misc]  # its base is unknown without the extra
    """A client that is yet to start: to await, to call `.sync()` on, or to use straight away as a synchronous one.

    Nothing starts before. What is not listed here raises AttributeError: asyncio asks what it is
    given for many names, and none of them may start a container.
    """

    def __init__(self, bootstrap: Callable[[], GameEnv]) -> None:
        super().__init__(bootstrap)
        self._straight: Any = None
        self._starting = threading.Lock()

    @property
    def base_url(self) -> str | None:
        """The server's address."""
        address: str | None = self._client().base_url
        return address

    def connect(self) -> Any:
        """Start it, if need be."""
        return self._client()

    def reset(self, **options: Any) -> StepResult:
        """Start an episode."""
        return self._client().reset(**options)

    def step(self, action: Any, **options: Any) -> StepResult:
        """Take a step."""
        return self._client().step(action, **options)

    def state(self) -> MetaGameState:
        """Where the session stands."""
        stands: MetaGameState = self._client().state()
        return stands

    def new_session(self) -> Any:
        """Another session of the same server."""
        return self._client().new_session()

    def disconnect(self) -> None:
        """End the session; the container stays."""
        self._client().disconnect()

    def close(self) -> None:
        """End the session and the container; where nothing was started, nothing is."""
        if self._straight is None:
            super().close()
        else:
            self._straight.close()

    def __enter__(self) -> Any:
        return self._client()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self) -> Any:
        with self._starting:
            if self._straight is None:
                self._straight = self.sync()
            return self._straight


async def _as_openenv_does(call: Coroutine[Any, Any, T]) -> T:
    """What the call on the session returns, or its error as OpenEnv's clients raise it."""
    try:
        return await loop.await_from_here(call)
    except MetaGameError as error:
        raise _as_openenv_says(error) from error


def _as_openenv_says(error: MetaGameError) -> Exception:
    if isinstance(error, Unavailable):
        return ConnectionError(str(error))
    code = "PROTOCOL_ERROR" if isinstance(error, ProtocolError) else outward(error).code
    return RuntimeError(f"Server error: {error} (code: {code})")
