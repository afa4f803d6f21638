"""What a client of the load writes down: where the session stands, by the server and by Redis."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from chaos.drivers import Answer, Forgotten, Unknown
from chaos.journal import Writer, read
from chaos.load import KINDS, MIX, Client, Load, Peek, Plan, Unread
from chaos.records import Stored

pytestmark = pytest.mark.anyio


class Standing:
    """A driver of a session that stands at step 3 of episode one, and fails as it is told to."""

    session = "s"

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    async def reset(self, episode: str) -> Answer:
        raise self._failure

    async def step(self, message: str) -> Answer:
        raise self._failure

    async def state(self) -> tuple[str | None, int]:
        return "one", 3

    async def recover(self) -> None: ...

    async def reopen(self) -> None: ...

    async def close(self) -> None: ...


async def written(folder: Path, failure: Exception, peek: Peek, calls: str = "play") -> list[dict[str, Any]]:
    """A client's journal behind its first line, of a load that is to finish at once."""
    load = Load("http://nowhere", folder, Plan(1, ("ours-ws",), 1.0, 1), asyncio.get_running_loop().time, peek)
    load.finish.set()
    with Writer(folder / "j", asyncio.get_running_loop().time) as journal:
        client = Client(load, journal, random.Random(1))
        client.begin(Standing(failure), "stock-ws")
        await getattr(client, calls)()
    return [{"what": entry.what, **entry.fields} for entry in read(folder / "j").entries[1:]]


def peeks(found: Stored | Exception | None) -> Peek:
    async def peek(session: str) -> Stored | None:
        assert session == "s"
        if isinstance(found, Exception):
            raise found
        return found

    return peek


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (Stored("one", 3, 9, "hello"), {"echo": "hello"}),
        (Stored("one", 3, 9, None), {"echo": None}),
        (Stored("one", 4, 9, "hello"), {"unread": "the record stands at step 4 of episode one"}),
        (Stored("two", 3, 9, "hello"), {"unread": "the record stands at step 3 of episode two"}),
        (None, {"unread": "there is no record"}),
        (Unread("it is away"), {"unread": "it is away"}),
    ],
    ids=["kept", "none kept", "gone on", "another episode", "no record", "away"],
)
async def test_after_a_call_in_doubt_the_journal_has_what_redis_keeps(
    found: Stored | Exception | None, kept: dict[str, str | None], tmp_path: Path
) -> None:
    lines = await written(tmp_path, Unknown("cut"), peeks(found))
    assert [line["what"] for line in lines] == ["send", "unknown", "state", "end"]
    assert lines[2] == {"what": "state", "episode": "one", "step": 3} | kept


async def test_without_a_doubt_redis_is_not_asked(tmp_path: Path) -> None:
    lines = await written(tmp_path, Forgotten(0), peeks(AssertionError()))
    assert lines[1] == {"what": "committed", "call": 1}
    assert all(line == {"what": "state", "episode": "one", "step": 3} for line in lines if line["what"] == "state")


async def test_a_step_that_counted_without_an_answer_is_written_down_with_its_number(tmp_path: Path) -> None:
    lines = await written(tmp_path, Forgotten(3), peeks(AssertionError()), "step")
    assert lines[1] == {"what": "committed", "call": 1, "step": 3}


def test_the_mix_has_every_kind() -> None:
    assert set(MIX) == set(KINDS)
