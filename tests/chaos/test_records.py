"""The checker's own parser against the bytes that the server writes, and against bytes that nobody should."""

from __future__ import annotations

import pytest

from chaos.records import Stored, Unreadable, read, record_key
from metagame.core.codec import pack
from metagame.core.remembered import entry_of, request_key
from metagame.core.session import Kind, Snapshot
from metagame.games import Observation
from services.store import keys

GENERATION = (5).to_bytes(8, "big") + b"randomly"
SNAPSHOT = Snapshot("one", 3, done=False, state=3)
ANSWER = Observation({"echoed_message": "héé😀", "message_length": 4}, 0.4, done=False, metadata={"step": 3})


def record(body: bytes, *, remembered: int = 0) -> bytes:
    entries = b"".join(entry_of(request_key(str(number), Kind.STEP, {}), number) for number in range(remembered))
    return b"1n" + bytes(16) + b"0000000000000" + GENERATION + b"%d" % remembered + entries + body


@pytest.mark.parametrize("form", [b"1", b"2"])
@pytest.mark.parametrize("remembered", [0, 1, 8])
def test_a_record_is_read_as_the_server_wrote_it(form: bytes, remembered: int) -> None:
    assert read(record(pack(SNAPSHOT, ANSWER, form=form), remembered=remembered)) == Stored("one", 3, 5, "héé😀")


def test_a_record_without_an_answer_is_read() -> None:
    assert read(record(pack(SNAPSHOT, None))) == Stored("one", 3, 5, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"2" + record(pack(SNAPSHOT, ANSWER))[1:],
        b"1x" + record(pack(SNAPSHOT, ANSWER))[2:],
        record(b"3" + pack(SNAPSHOT, ANSWER)[1:]),
        record(pack(SNAPSHOT, ANSWER))[:-20],
        record(b"2not deflated"),
        record(pack(Snapshot("one", 3, done=True, state=3), ANSWER)),
    ],
    ids=["nothing", "layout", "origin", "format", "cut off", "not deflated", "done"],
)
def test_what_is_no_record_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read(raw)


def test_its_key_is_the_servers() -> None:
    assert record_key("abc") == keys.record_key("metagame", "abc")
