"""OpenEnv's task routes: which environment this is, and the tasks of a game that has any.

They look at no session and change nothing, so both modes have them.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Never, TypeVar

import structlog
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

from metagame.core import strictjson
from metagame.errors import GameFailed, MetaGameError
from metagame.games import Game
from metagame.wire.requests import decode_body
from metagame.wire.tasks import SplitBody, TaskBody, TaskRangeBody, split_object

from . import describe
from .bodies import read_body
from .problems import JSON

BodyT = TypeVar("BodyT", bound=SplitBody)

log = structlog.get_logger()


class TasksSurface:
    """The handlers. The environment's name is the game's with `_env` behind it, as `openenv init` names one."""

    def __init__(self, game: Game, *, max_body_bytes: int) -> None:
        self._game = game
        self._name = f"{game.name}_env"
        self._max_body_bytes = max_body_bytes

    def install(self, app: FastAPI) -> None:
        """Add the routes, behind those whose paths begin with a name of their own."""
        router = APIRouter(tags=["tasks"])
        router.get("/list_environments", **describe.environments())(self.environments)
        router.get("/{env_name}/splits", **describe.splits())(self.splits)
        router.post("/{env_name}/tasks", **describe.tasks(SplitBody))(self.tasks)
        router.post("/{env_name}/num_tasks", **describe.num_tasks(SplitBody))(self.num_tasks)
        router.post("/{env_name}/task", **describe.task(TaskBody))(self.task)
        router.post("/{env_name}/task_range", **describe.tasks(TaskRangeBody))(self.task_range)
        app.include_router(router)

    async def environments(self) -> list[str]:
        """The one environment."""
        return [self._name]

    async def splits(self, env_name: str) -> Response:
        """The game's splits."""
        self._check(env_name)
        return self._answer("list_splits", (), lambda splits: [split_object(split) for split in splits])

    async def tasks(self, request: Request, env_name: str) -> Response:
        """The tasks of a split."""
        asked = await self._asked(SplitBody, request, env_name)
        return self._answer("list_tasks", (asked.split,), lambda tasks: {"tasks": tasks, "env_name": self._name})

    async def num_tasks(self, request: Request, env_name: str) -> Response:
        """How many there are."""
        asked = await self._asked(SplitBody, request, env_name)
        return self._answer("num_tasks", (asked.split,), lambda count: {"num_tasks": count})

    async def task(self, request: Request, env_name: str) -> Response:
        """One of them."""
        asked = await self._asked(TaskBody, request, env_name)
        return self._answer("get_task", (asked.split, asked.index), lambda task: {"task": task})

    async def task_range(self, request: Request, env_name: str) -> Response:
        """Some of them."""
        asked = await self._asked(TaskRangeBody, request, env_name)
        bounds = (asked.split, asked.start, asked.stop)
        return self._answer("get_task_range", bounds, lambda tasks: {"tasks": tasks})

    async def _asked(self, shape: type[BodyT], request: Request, env_name: str) -> BodyT:
        asked = decode_body(shape, await read_body(request, self._max_body_bytes))
        self._check(env_name)
        return asked

    def _check(self, env_name: str) -> None:
        if env_name.lower() != self._name.lower():
            raise HTTPException(HTTPStatus.NOT_FOUND, f"unknown environment {env_name!r}")

    def _answer(self, method: str, arguments: tuple[object, ...], shape: Callable[[Any], object]) -> Response:
        """What the game says, in the answer's shape; raises for what it does not say."""
        ask = getattr(self._game, method, _not_supported)
        try:
            return Response(strictjson.dumps(shape(ask(*arguments))), media_type=JSON)
        except MetaGameError:
            raise
        except NotImplementedError:
            why = f"{method} is not supported for this environment"
            raise HTTPException(HTTPStatus.NOT_IMPLEMENTED, why) from None
        except IndexError:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Invalid task index") from None
        except Exception as failure:  # the game is somebody's code: its failure is an answer, not a crash
            log.exception("the game failed", game=self._game.name, asked=method)
            message = "The game failed to say which tasks it has. Its own error says why, in the log."
            raise GameFailed(message) from failure


def _not_supported(*_: object) -> Never:
    raise NotImplementedError
