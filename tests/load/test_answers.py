"""Every answer is looked at: what is wrong is an error, counted, and never dropped."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from metagame.load import Fleet, Play, Played, Sockets
from tests.load.scripted import Answering, right, scripted


def played(sockets: Sockets, play: Play) -> Played:
    with Fleet(sockets) as fleet:
        opened = fleet.open()
        assert (opened.count, opened.errors.count) == (sockets.count, 0), opened.errors
        return fleet.play(play)


def answering(text: Any) -> Answering:
    def answer(socket: ServerConnection, frame: dict[str, Any], step: int) -> None:
        socket.send(text(frame, step))

    return answer


@pytest.mark.parametrize(
    "text",
    [
        right,
        lambda frame, step: json.dumps(json.loads(right(frame, step)), indent=2),
        lambda frame, step: right(frame, step, padding="x" * 1000),
        lambda frame, step: right(frame, step, padding="x" * 70_000),
    ],
    ids=["short", "with blanks", "two bytes of length", "eight bytes of length"],
)
def test_a_right_answer_counts_however_it_is_written(text: Any) -> None:
    with scripted(answering(text)) as sockets:
        found = played(sockets, Play(steps=12))
    assert (found.steps, found.errors.count, found.unsent, len(found.latency_ms)) == (12, 0, 0, 12)


def test_an_answer_in_pieces_with_a_ping_between_them_is_one_answer() -> None:
    ponged = threading.Event()

    def answer(socket: ServerConnection, frame: dict[str, Any], step: int) -> None:
        whole = right(frame, step)
        if step == 2:
            threading.Thread(target=lambda: ponged.set() if socket.ping(b"there?").wait(20) else None).start()
        socket.send([whole[:10], whole[10:20], whole[20:]])

    with scripted(answer) as sockets:
        found = played(sockets, Play(steps=5))
        assert ponged.wait(20)
    assert (found.steps, found.errors.count) == (5, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lambda frame, step: right(frame, step + 1), "step 1: "),
        (lambda frame, step: right(frame, 10), "step 1: "),
        (lambda frame, step: right(frame, 0), "step 1: "),
        (lambda frame, step: right(frame | {"request_id": "another"}, step), "not the request id that was sent"),
        (lambda frame, step: '{"type":"error","data":{"code":"EXECUTION_ERROR"}}', "EXECUTION_ERROR"),
        (lambda frame, step: "nonsense", "nonsense"),
    ],
    ids=["a step too far", "a number that begins alike", "no step", "another request id", "an error", "nonsense"],
)
def test_a_wrong_answer_is_an_error_and_no_step(text: Any, says: str) -> None:
    with scripted(answering(text)) as sockets:
        found = played(sockets, Play(steps=1))
    assert (found.steps, found.errors.count, len(found.latency_ms)) == (0, 1, 0)
    assert says in found.errors.texts[0]


def test_a_repeated_step_is_an_error() -> None:
    with scripted(answering(lambda frame, step: right(frame, 1 if step < 3 else step - 1))) as sockets:
        found = played(sockets, Play(steps=4))
    # The second answer repeats the first; what follows is the number that it should have been, and so on.
    assert (found.steps, found.errors.count) == (3, 1)


@pytest.mark.parametrize("counted", [True, False])
def test_after_an_error_answer_the_step_may_have_counted_or_not(*, counted: bool) -> None:
    def text(frame: dict[str, Any], step: int) -> str:
        if step == 2:
            return '{"type":"error","data":{"code":"SESSION_ERROR","retryable":true}}'
        return right(frame, step - (step > 2 and not counted))

    with scripted(answering(text)) as sockets:
        found = played(sockets, Play(steps=5))
    assert (found.steps, found.errors.count, found.unsent) == (4, 1, 0)


def test_after_an_error_answer_a_step_is_still_not_skipped() -> None:
    def text(frame: dict[str, Any], step: int) -> str:
        return "busy" if step == 2 else right(frame, step + (step > 2))

    with scripted(answering(text)) as sockets:
        found = played(sockets, Play(steps=3))
    assert (found.steps, found.errors.count) == (1, 2)


def test_a_socket_closed_in_answer_to_a_step_is_an_error_and_the_other_steps_are_said_to_be_unsent() -> None:
    def answer(socket: ServerConnection, frame: dict[str, Any], step: int) -> None:
        if step < 3:
            socket.send(right(frame, step))
        else:
            socket.close(4001, "taken over")

    with scripted(answer) as sockets:
        found = played(sockets, Play(steps=5))
    assert (found.steps, found.errors.count, found.unsent) == (2, 1, 2)
    assert found.errors.texts == ["the server closed the socket with 4001 taken over"]


def test_a_second_answer_to_one_step_is_an_error() -> None:
    def answer(socket: ServerConnection, frame: dict[str, Any], step: int) -> None:
        if step == 1:
            socket.send(right(frame, step))
            socket.send("one more")
        else:
            socket.send(right(frame, step))

    with scripted(answer) as sockets:
        found = played(sockets, Play(steps=3))
    assert found.errors.count >= 1
    assert "one more" in found.errors.texts[0]


def test_no_answer_is_an_error_after_a_while() -> None:
    with scripted(lambda socket, frame, step: None, timeout_s=0.5) as sockets:
        found = played(sockets, Play(steps=2))
    assert (found.steps, found.errors.count, found.unsent) == (0, 1, 1)
    assert found.errors.texts == ["no answer within 0.5 s"]


def test_a_socket_lost_between_plays_is_one_error_and_unsent_steps_from_then_on() -> None:
    lost = threading.Event()

    def answer(socket: ServerConnection, frame: dict[str, Any], step: int) -> None:
        socket.send(right(frame, step))
        socket.close(1012, "")
        lost.set()

    with scripted(answer) as sockets, Fleet(sockets) as fleet:
        fleet.open()
        first = fleet.play(Play(steps=1))
        assert lost.wait(20)
        second = fleet.play(Play(steps=4))
        third = fleet.play(Play(rate_per_s=100, steps=3))
    assert first.steps == 1
    # The close may come with the answer, and is then the first play's.
    assert first.errors.count + second.errors.count == 1
    assert [*first.errors.texts, *second.errors.texts] == ["the server closed the socket with 1012"]
    assert (second.steps, second.unsent) in {(0, 4), (0, 3)}
    assert (third.steps, third.errors.count, third.unsent) == (0, 0, 3)
