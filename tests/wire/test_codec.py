"""The client's codec joined to the server's: what one encodes, the other decodes to the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagame import errors
from metagame.core import strictjson
from metagame.core.session import Expect
from metagame.errors import MetaGameError, ProtocolError
from metagame.games import Observation
from metagame.models import MetaGameAction
from metagame.wire import answers, requests
from metagame.wire.answers import StateAnswer
from metagame.wire.requests import CloseRequest, ResetRequest, StateRequest, StepRequest

text = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, values, max_size=4)
expects = st.none() | st.builds(Expect, st.none() | text, st.integers(0, 2**63))
request_ids = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=256)
options = st.dictionaries(
    text.filter(lambda name: name not in {"seed", "episode_id", "request_id", "expect"}), values, max_size=3
)
resets = st.builds(
    ResetRequest, st.none() | st.integers(0, requests.MAX_SEED), st.none() | names, options, request_ids, expects
)
steps = st.builds(StepRequest, objects, request_ids, expects)
observations = st.builds(
    Observation,
    st.dictionaries(text.filter(lambda name: name != "metadata"), values, max_size=4),
    st.none() | numbers,
    st.booleans(),
    objects,
)
states = st.builds(StateAnswer, st.none() | text, st.integers(0, 2**63))
fields = st.dictionaries(
    text.filter(lambda name: name not in answers.RESERVED | {"detail", "request_id", "errors", "self", "type"}),
    values,
    max_size=3,
)
quick = settings(max_examples=150, deadline=None)


@quick
@given(request=resets | steps | st.builds(StateRequest, request_ids.filter(bool)) | st.just(CloseRequest()))
def test_a_frame_decodes_to_the_request_it_was_made_of(request: requests.Request) -> None:
    assert requests.decode_frame(requests.parse_frame(requests.encode_frame(request))) == request


def decoded(frame: dict[str, Any]) -> requests.Request | requests.McpRequest | tuple[str, object]:
    try:
        return requests.decode_frame(frame)
    except MetaGameError as error:
        return error.message, error.fields


nearly_steps = st.fixed_dictionaries(
    {"type": st.just("step"), "data": objects | values},
    optional={
        "request_id": names | values | st.text("r", min_size=255, max_size=258),
        "expect": values
        | st.fixed_dictionaries(
            {"step_count": st.integers(-1, 9) | values}, optional={"episode_id": text | values, "more": values}
        ),
        "more": values,
    },
)


@settings(max_examples=600, deadline=None)
@given(frame=nearly_steps)
def test_a_step_known_by_sight_is_what_pydantic_finds_in_it(frame: dict[str, Any]) -> None:
    by_sight = decoded(frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "plain_step", lambda _: None)
        assert decoded(frame) == by_sight


def test_aplain_step_is_known_by_sight() -> None:
    for more in ({}, {"request_id": "r"}, {"expect": {"episode_id": "e", "step_count": 0}}):
        assert requests.plain_step({"type": "step", "data": {}, **more}) is not None


@quick
@given(request=resets)
def test_a_reset_body_decodes_to_the_request_it_was_made_of(request: ResetRequest) -> None:
    assert requests.decode_reset_body(requests.encode_body(request)) == request


@quick
@given(request=steps)
def test_a_step_body_decodes_to_the_request_it_was_made_of(request: StepRequest) -> None:
    assert requests.decode_step_body(requests.encode_body(request)) == request


@quick
@given(request=resets | steps)
def test_frame_and_body_carry_the_same_command(request: ResetRequest | StepRequest) -> None:
    framed = requests.decode_frame(requests.parse_frame(requests.encode_frame(request)))
    body = requests.encode_body(request)
    decoded: requests.Request = (
        requests.decode_reset_body(body) if isinstance(request, ResetRequest) else requests.decode_step_body(body)
    )
    assert framed == decoded


@quick
@given(answer=observations, request_id=request_ids)
def test_an_observation_arrives_as_it_was_sent(answer: Observation, request_id: str | None) -> None:
    assert answers.decode_frame(answers.observation_frame(answer, request_id)) == (answer, request_id)
    body = answers.decode_body(answers.observation_body(answer, request_id))
    assert answers.decode_observation(body) == answer
    assert body.get("request_id") == request_id


@quick
@given(answer=states, request_id=request_ids)
def test_a_state_arrives_as_it_was_sent(answer: StateAnswer, request_id: str | None) -> None:
    assert answers.decode_frame(answers.state_frame(answer, request_id)) == (answer, request_id)
    assert answers.decode_state(answers.decode_body(answers.state_body(answer))) == answer


@pytest.mark.parametrize("kind", errors.TABLE, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(message=text, added=fields, request_id=request_ids)
def test_an_error_arrives_as_its_own_type_with_its_fields(
    kind: type[MetaGameError], message: str, added: dict[str, Any], request_id: str | None
) -> None:
    sent = kind("why")
    sent.message, sent.fields = message, added
    with pytest.raises(MetaGameError) as raised:
        answers.decode_frame(answers.error_frame(sent, request_id))
    for arrived in (raised.value, answers.error_of_body(answers.error_body(sent, request_id))):
        assert type(arrived) is kind
        assert (arrived.message, arrived.fields) == (message, added)


def test_an_error_list_arrives_over_both_ways() -> None:
    with pytest.raises(errors.InvalidAction) as refused:
        requests.validate_action(MetaGameAction, {"message": 5})
    listed = [{"type": "string_type", "loc": ["message"], "msg": "Input should be a valid string", "input": 5}]
    with pytest.raises(errors.InvalidAction) as raised:
        answers.decode_frame(answers.error_frame(refused.value))
    for arrived in (raised.value, answers.error_of_body(answers.error_body(refused.value))):
        assert type(arrived) is errors.InvalidAction
        assert arrived.fields == {"errors": listed}


@pytest.mark.parametrize("metadata", [{}, {"step": 1}])
def test_metadata_stands_where_existing_clients_look_for_it(metadata: dict[str, Any]) -> None:
    answer = Observation({"seen": 1}, 0.5, metadata=metadata)
    data = json.loads(answers.observation_frame(answer))["data"]
    body = json.loads(answers.observation_body(answer))
    assert data["observation"] == body["observation"] == {"metadata": metadata, "seen": 1}
    assert ("metadata" in data) == bool(metadata)
    assert body["metadata"] == (metadata or None)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "[]",
        "5",
        "{}",
        '{"type":"observation"}',
        '{"type":"observation","data":[]}',
        '{"type":"observation","data":{"reward":1}}',
        '{"type":"state","data":{}}',
        '{"type":"state","data":{"step_count":"1"}}',
        '{"type":"hello","data":{}}',
        '{"type":"error","data":{"message":"x"}}',
        '{"type":"error","data":{"message":"x","reason":"of another release"}}',
        "<html>502 Bad Gateway</html>",
    ],
)
def test_an_answer_that_no_server_of_ours_gives_is_a_protocol_error(frame: str) -> None:
    with pytest.raises(ProtocolError):
        answers.decode_frame(frame)


@quick
@given(value=values)
def test_both_json_implementations_write_what_both_read(value: Any) -> None:
    for written in (strictjson.dumps(value), strictjson.slow_dumps(value)):
        assert _same(strictjson.loads(written), value)
        assert _same(strictjson.slow_loads(written), value)
    assert strictjson.canonical(value) == strictjson.slow_dumps(value, sort_keys=True) or _has_floats(value)


JSON_LIKE = st.text(st.sampled_from(list('{}[]",:0123456789.eE+-\\udD8cfantrulse \n\t\ufeff\0é😀')), max_size=30)


@settings(max_examples=600, deadline=None)
@given(written=JSON_LIKE | st.text(max_size=12) | st.binary(max_size=12) | values.map(json.dumps))
def test_both_json_implementations_take_and_refuse_the_same(written: str | bytes) -> None:
    _agree(written)


@pytest.mark.parametrize(
    "written",
    [
        "NaN", "Infinity", "-Infinity", "[1e999]", "-1e999", "1e-999", "9" * 19, "9" * 20, "9" * 21, "9" * 400,
        "-" + "9" * 19, "-9223372036854775808", "-9223372036854775809", "18446744073709551615",
        "18446744073709551616", "-0", "-0.0", "01", "1.", ".5", "+1", "0x1", "1_0", "1e5", "1E+5", '{"a":1,"a":2}',
        r'"\ud800"', r'"\udc00"', r'"\ud83d\ude00"', r'"\ude00\ud83d"', r'{"\ud800":1}', r'"\u0000"', '"\0"', '"\t"',
        '"\x7f"', "\ufeff1", " 1 ", "\x0c1", "\xa01", "", " ", "[1,]", '{"a":1,}', "[1 2]", "{1:2}", "'a'", "null x",
        "tru", "True", "// c\n1", '"\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b"\xef\xbb\xbf1", b"\x31\x00",
    ],
    ids=repr,
)  # fmt: skip
def test_both_json_implementations_agree_on_what_is_easily_got_wrong(written: str | bytes) -> None:
    _agree(written)


@quick
@given(levels=st.integers(1, 300), limit=st.integers(0, 300))
def test_depth_is_counted_in_levels(levels: int, limit: int) -> None:
    value: Any = 1
    for level in range(levels):
        value = [0, value] if level % 2 else {"a": value}
    assert strictjson.deeper_than(value, limit) == (levels > limit)


def _agree(written: str | bytes) -> None:
    try:
        fast = strictjson.loads(written)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - which one is each library's own business
            strictjson.slow_loads(written)
        why, at = strictjson.mistake(written)
        assert why
        assert 0 <= at <= len(written)
    else:
        assert _same(strictjson.slow_loads(written), fast)


def _same(one: Any, other: Any) -> bool:
    """Equal, also in type: 1 is not 1.0."""
    return repr(one) == repr(other)


def _has_floats(value: Any) -> bool:
    """Floats are written as either library likes; they read as the same."""
    if isinstance(value, dict):
        return any(map(_has_floats, value.values()))
    return any(map(_has_floats, value)) if isinstance(value, list) else isinstance(value, float)
