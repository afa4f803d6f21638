"""What a game with tasks may leave out, refuse and get wrong; tests/wire holds what it says to OpenEnv's."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from metagame.errors import InvalidAction
from metagame.games.tasks import TaskProvider
from tests.behaviour.apps import running_app
from tests.games.pig import PigGame
from tests.games.tasks import Tasks

MAX_BYTES = 2048
SECRET = "a path and a password"


class PigTasks(PigGame):
    """Pig with some of the methods that there may be."""

    def list_splits(self) -> Any:
        return ["train", "broken"]

    def num_tasks(self, split: str) -> int:
        if split == "broken":
            raise RuntimeError(SECRET)
        if split != "train":
            message = "No such split"
            raise InvalidAction(message, errors=[{"type": "split", "loc": ["split"], "msg": "not one of: train"}])
        return 2

    def get_task(self, split: str, index: int) -> Any:
        raise NotImplementedError

    def get_task_range(self, split: str, start: int | None, stop: int | None) -> Any:
        return [float("nan")]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with (
        running_app(PigTasks(), redis_url=None, max_frame_bytes=MAX_BYTES) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


def test_the_protocol_is_what_a_game_with_all_of_it_has() -> None:
    provider: TaskProvider = Tasks()
    assert provider.num_tasks("train") == len(provider.list_tasks("train")) == 3
    public = [{name for name in vars(kind) if not name.startswith("_")} for kind in (TaskProvider, Tasks)]
    assert public[0] == public[1]


def test_each_game_has_an_environment_of_its_name(http: httpx.Client) -> None:
    assert http.get("/list_environments").json() == ["pig_env"]
    assert [split["type"] for split in http.get("/Pig_Env/splits").json()] == ["train", "validation"]


@pytest.mark.parametrize(
    ("path", "method"), [("tasks", "list_tasks"), ("task", "get_task")], ids=["not there", "not implemented"]
)
def test_a_method_that_a_game_lacks_is_not_supported(http: httpx.Client, path: str, method: str) -> None:
    answer = http.post(f"/pig_env/{path}", json={"split": "train"} | ({"index": 0} if path == "task" else {}))
    assert answer.status_code == 501
    assert answer.json() == {"detail": f"{method} is not supported for this environment", "code": "NOT_IMPLEMENTED"}


def test_what_a_game_refuses_is_the_callers_mistake(http: httpx.Client) -> None:
    answer = http.post("/pig_env/num_tasks", json={"split": "nope"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid_action")
    assert answer.json()["detail"][0]["msg"] == "not one of: train"


@pytest.mark.parametrize(("path", "split"), [("num_tasks", "broken"), ("task_range", "train")])
def test_a_game_that_fails_costs_an_error_that_tells_nothing_of_it(http: httpx.Client, path: str, split: str) -> None:
    answer = http.post(f"/pig_env/{path}", json={"split": split})
    assert (answer.status_code, answer.json()["reason"]) == (500, "game_failed")
    assert SECRET not in answer.text
    assert http.post("/pig_env/num_tasks", json={"split": "train"}).json() == {"num_tasks": 2}


def test_a_body_has_the_limit_of_every_other(http: httpx.Client) -> None:
    answer = http.post("/pig_env/num_tasks", json={"split": "x" * MAX_BYTES})
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")


@pytest.mark.parametrize("name", ["splits", "tasks"])
def test_a_session_may_be_called_like_a_task_route(http: httpx.Client, name: str) -> None:
    assert http.post("/sessions", json={"session_id": name}).status_code == 201
    assert http.get(f"/sessions/{name}").json()["session_id"] == name
    assert http.delete(f"/sessions/{name}").status_code == 204
    assert http.get(f"/sessions/{name}").status_code == 404


def test_a_game_without_a_readme_shows_none(http: httpx.Client) -> None:
    assert http.get("/metadata").json()["readme_content"] is None
