"""OpenEnv's own server with its own echo template, run by the environment that holds OpenEnv 0.10.

python -m uvicorn reference:app --app-dir bench
"""

# mypy: ignore-errors
# ruff: noqa: D102 - the shape of OpenEnv's template

from typing import Any, ClassVar
from uuid import uuid4

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field


class EchoAction(Action):
    """One message to echo."""

    message: str = Field(...)


class EchoObservation(Observation):
    """The echoed message and its length."""

    echoed_message: str = ""
    message_length: int = 0


class EchoEnvironment(Environment):
    """The echo of `openenv init`, word for word but for the names."""

    SUPPORTS_CONCURRENT_SESSIONS: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed: Any = None, episode_id: str | None = None, **_: Any) -> EchoObservation:  # noqa: ARG002 - OpenEnv's signature
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return EchoObservation(echoed_message="ready!", message_length=0, done=False, reward=0.0)

    def step(self, action: EchoAction, timeout_s: Any = None, **_: Any) -> EchoObservation:  # noqa: ARG002 - OpenEnv's signature
        self._state.step_count += 1
        message = action.message
        return EchoObservation(
            echoed_message=message,
            message_length=len(message),
            done=False,
            reward=len(message) * 0.1,
            metadata={"original_message": message, "step": self._state.step_count},
        )

    @property
    def state(self) -> State:
        return self._state


app = create_app(EchoEnvironment, EchoAction, EchoObservation, env_name="echo", max_concurrent_envs=65536)
