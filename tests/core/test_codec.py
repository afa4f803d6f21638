import math
import struct
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagame.core import strictjson
from metagame.core.codec import pack, unpack_answer, unpack_snapshot
from metagame.core.remembered import ENTRY_BYTES, HASH_BYTES, entry_of, entry_step, request_key
from metagame.core.session import EMPTY, Kind, Snapshot
from metagame.errors import Unavailable
from metagame.games import Observation

SNAPSHOT = Snapshot("e", 4, done=True, state={"b": [1, None, "é"], "a": 0.1})
ANSWER = Observation({"seen": "\0😀"}, 0.3, done=True, metadata={"step": 4})
text = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("form", [b"1", b"2"])
def test_both_formats_that_are_read_bring_back_what_was_packed(form: bytes) -> None:
    body = pack(SNAPSHOT, ANSWER, form=form)
    assert body[:1] == form
    assert unpack_snapshot(body) == SNAPSHOT
    assert unpack_answer(body) == ANSWER


@pytest.mark.parametrize("form", [b"1", b"2"])
def test_a_body_may_be_without_an_answer(form: bytes) -> None:
    body = pack(EMPTY, None, form=form)
    assert unpack_snapshot(body) == EMPTY
    assert unpack_answer(body) is None


def test_what_is_written_is_the_format_that_the_last_release_reads() -> None:
    body = pack(SNAPSHOT, None)
    state = b'["e",4,true,{"a":0.1,"b":[1,null,"\xc3\xa9"]}]'
    assert body == b"1" + struct.pack(">I", len(state)) + state


def test_the_newer_format_is_the_older_one_deflated() -> None:
    assert zlib.decompress(pack(SNAPSHOT, ANSWER, form=b"2")[1:]) == pack(SNAPSHOT, ANSWER)[1:]


@pytest.mark.parametrize("body", [b"9...", b"0", b"3" + bytes(8), b""])
def test_an_unknown_format_is_a_retryable_error(body: bytes) -> None:
    for unpack in (unpack_snapshot, unpack_answer):
        with pytest.raises(Unavailable) as unknown:
            unpack(body)
        assert unknown.value.retryable
        assert "outcome" not in unknown.value.fields


def test_the_order_of_keys_never_shows() -> None:
    one, other = Snapshot("e", 0, state={"a": 1, "b": 2}), Snapshot("e", 0, state={"b": 2, "a": 1})
    assert pack(one, None) == pack(other, None)
    assert request_key("r", Kind.STEP, {"a": 1, "b": 2}) == request_key("r", Kind.STEP, {"b": 2, "a": 1})


def test_a_request_key_tells_ids_commands_and_kinds_apart() -> None:
    key = request_key("r", Kind.STEP, {"message": "a"})
    others = [
        request_key("s", Kind.STEP, {"message": "a"}),
        request_key("r", Kind.STEP, {"message": "b"}),
        request_key("r", Kind.RESET, {"message": "a"}),
    ]
    same_id = [other[:HASH_BYTES] == key[:HASH_BYTES] for other in others]
    same_command = [other[HASH_BYTES:] == key[HASH_BYTES:] for other in others]
    assert (same_id, same_command) == ([False, True, True], [True, False, False])


def test_an_entry_holds_id_command_and_step() -> None:
    key = request_key("r", Kind.STEP, {})
    entry = entry_of(key, 70_000)
    assert len(entry) == ENTRY_BYTES
    assert entry.startswith(key)
    assert entry_step(entry) == 70_000


@given(state=values, fields=st.dictionaries(text, values, max_size=3), form=st.sampled_from([b"1", b"2"]))
@settings(max_examples=100, deadline=None)
def test_whatever_json_can_say_is_kept(state: Any, fields: dict[str, Any], form: bytes) -> None:
    snapshot, answer = Snapshot("e", 1, state=state), Observation(fields, metadata=fields)
    body = pack(snapshot, answer, form=form)
    assert unpack_snapshot(body) == snapshot
    assert unpack_answer(body) == answer


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), "\ud800", {"a": b"bytes"}, math.nan, [{"a": math.inf}], (-math.inf,), datetime.now(UTC), EMPTY],
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        pack(Snapshot("e", 0, state=value), None)


@given(value=values)
@settings(max_examples=100, deadline=None)
def test_the_standard_library_reads_and_writes_the_same_values(value: Any) -> None:
    assert strictjson.slow_loads(strictjson.dumps(value)) == value
    assert strictjson.loads(strictjson.slow_dumps(value, sort_keys=True)) == value
