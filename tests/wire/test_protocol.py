"""Our WebSocket protocol sees and says what uvicorn's and the websockets library alone do, however bytes arrive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from services.surfaces.channel import WAITING, DirectChannel, Frame
from services.surfaces.outbox import outbox_of
from services.surfaces.protocol import SocketProtocol, text_frame, whole_text
from tests.wire.raw_sockets import (
    BINARY,
    CLOSE,
    CONTINUED,
    LIMIT_BYTES,
    PING,
    PONG,
    TEXT,
    Socket,
    Wire,
    cut,
    frame,
    turns,
)

pytestmark = pytest.mark.anyio

masks = st.binary(min_size=4, max_size=4)
words = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["é" * 70, "x" * 126, "x" * LIMIT_BYTES])
texts = words.map(str.encode)
short = st.binary(max_size=125)
lengths = st.sampled_from([0, 0, 0, 0, 2, 8])


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A message in pieces, with control frames between them."""
    payload, mask = draw(texts), draw(masks)
    pieces = cut(payload, draw(st.lists(st.integers(0, 400), max_size=3))) or [b""]
    sent = b""
    for number, piece in enumerate(pieces):
        sent += frame(CONTINUED if number else TEXT, piece, final=number == len(pieces) - 1, mask=mask)
        if draw(st.booleans()):
            sent += frame(PING, b"between", mask=mask)
    return sent


def made(opcode: int, payloads: st.SearchStrategy[bytes], **fixed: Any) -> st.SearchStrategy[bytes]:
    return st.builds(lambda payload, mask: frame(opcode, payload, mask=mask, **fixed), payloads, masks)


usual = st.builds(
    lambda payload, mask, length_bytes: frame(TEXT, payload, mask=mask, length_bytes=length_bytes),
    texts,
    masks,
    lengths,
)
rare = st.one_of(
    fragmented(), made(BINARY, texts), made(PING, short), made(PONG, short), st.just(frame(TEXT, b"")), usual
)
fatal = st.one_of(
    made(TEXT, st.just(b"x" * (LIMIT_BYTES + 1))),
    made(TEXT, st.just(b"begun"), final=False),
    made(CONTINUED, texts),
    made(TEXT, st.sampled_from([b"\xff", b"cut \xc3", b"\xed\xa0\x80"])),
    made(CLOSE, st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x00"])),
    made(3, short),
    st.sampled_from([b"\x81\x00", b"\x81\x03abc", b"\xc1\x80\1\2\3\4", b"\x81", b"\x81\xfe", b"\x81\xff"]),
)
streams = st.lists(usual | rare, max_size=6).flatmap(
    lambda good: st.tuples(st.just(good), fatal | st.just(b""), st.lists(usual | rare, max_size=2))
)


async def seen(protocol: type[WebSocketsSansIOProtocol], reads: list[list[bytes]]) -> tuple[list[Frame], bytes]:
    """What the app sees, and what the client gets."""
    socket = await Socket(protocol).opened()
    for chunks in reads:
        await socket.receives(*chunks)
    await socket.lost()
    return socket.sees, socket.wire.written


def agree(reads: list[list[bytes]]) -> None:
    assert asyncio.run(seen(SocketProtocol, reads)) == asyncio.run(seen(WebSocketsSansIOProtocol, reads))


@settings(deadline=None, max_examples=300)
@given(streams, st.lists(st.integers(0, 4000), max_size=8), st.booleans())
def test_any_stream_cut_anywhere_is_seen_as_by_the_library(
    stream: tuple[list[bytes], bytes, list[bytes]], places: list[int], at_once: bool
) -> None:
    good, bad, behind = stream
    chunks = cut(b"".join([*good, bad, *behind]), places)
    agree([chunks] if at_once else [[chunk] for chunk in chunks])


@settings(deadline=None, max_examples=300)
@given(streams)
def test_any_frames_that_arrive_one_by_one_are_seen_as_by_the_library(
    stream: tuple[list[bytes], bytes, list[bytes]],
) -> None:
    good, bad, behind = stream
    agree([[one] for one in [*good, bad, *behind] if one])


@given(st.binary(max_size=12) | usual.flatmap(lambda whole: st.sampled_from([whole, whole[:-1], whole + b"\x81"])))
def test_data_is_one_whole_text_frame_or_is_left_to_the_library(data: bytes) -> None:
    text = whole_text(data, LIMIT_BYTES)
    sees, written = asyncio.run(seen(WebSocketsSansIOProtocol, [[data]]))
    if text is not None:
        assert (sees, written) == ([text], text_frame(text.encode()))


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
async def test_an_answer_of_any_length_is_framed_as_by_the_library(length: int) -> None:
    text = b"x" * length
    library = (await Socket(WebSocketsSansIOProtocol).opened()).protocol.conn
    library.send_text(text)
    assert b"".join(library.data_to_send()) == text_frame(text)


async def test_a_whole_text_frame_does_not_reach_the_parser_and_all_others_do() -> None:
    socket = await Socket(SocketProtocol).opened()
    parsed: list[bytes] = []
    parse = socket.protocol.conn.receive_data

    def receive_data(data: bytes | bytearray) -> None:
        parsed.append(bytes(data))
        parse(data)

    socket.protocol.conn.receive_data = receive_data  # type: ignore[method-assign]
    whole, ping = frame(TEXT, b"whole"), frame(PING, b"?")
    first, last = frame(TEXT, b"in ", final=False), frame(CONTINUED, b"pieces")
    await socket.receives(whole)  # the parser has seen nothing but the handshake
    await socket.receives(ping)
    await socket.receives(whole)
    await socket.receives(whole[:3])
    await socket.receives(whole[3:])
    await socket.receives(first)
    await socket.receives(ping)
    await socket.receives(last)
    await socket.receives(whole)
    assert parsed == [ping, whole[:3], whole[3:], first, ping, last]
    assert socket.sees == ["whole", "whole", "whole", "in pieces", "whole"]


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["the short way", "the long way"])
async def test_no_more_is_read_while_more_than_one_frame_waits(opcode: int) -> None:
    socket = await Socket(SocketProtocol).opened()
    socket.may_read.clear()
    await socket.receives(frame(opcode, b"answered for long"))
    for _ in range(WAITING):
        await socket.receives(frame(opcode, b"waits"))
        assert socket.wire.reading
    await socket.receives(frame(opcode, b"one too many"))
    assert not socket.wire.reading
    socket.may_read.set()
    await turns()
    assert socket.wire.reading
    assert len(socket.sees) == WAITING + 2


async def test_a_burst_in_one_read_is_held_back_and_answered_in_order() -> None:
    socket = await Socket(SocketProtocol).opened()
    socket.may_read.clear()
    burst = [frame(TEXT, b"%d" % number) for number in range(20)]
    await socket.receives(b"".join(burst))
    assert not socket.wire.reading
    socket.may_read.set()
    while len(socket.sees) < len(burst):
        await turns()
    assert socket.wire.reading
    assert socket.wire.written == b"".join(text_frame(b"%d" % number) for number in range(20))


async def test_an_answer_waits_for_a_client_that_reads_slowly() -> None:
    socket = await Socket(SocketProtocol).opened()
    socket.protocol.pause_writing()
    await socket.receives(frame(TEXT, b"one"), frame(TEXT, b"two"), frame(TEXT, b"three"))
    assert (socket.sees, socket.wire.written, socket.wire.reading) == (["one"], b"", False)
    socket.protocol.resume_writing()
    await turns()
    assert socket.sees == ["one", "two", "three"]
    assert socket.wire.written == text_frame(b"one") + text_frame(b"two") + text_frame(b"three")
    assert socket.wire.reading


async def _closed(socket: Socket) -> None:
    assert socket.channel is not None
    await socket.channel.close(1000)


async def _refused(socket: Socket) -> None:
    await socket.receives(frame(TEXT, b"x" * (LIMIT_BYTES + 1)))


@pytest.mark.parametrize("end", [Socket.lost, _closed, _refused], ids=["lost", "closed", "refused"])
async def test_an_answer_to_a_socket_that_ended_is_an_os_error(end: Callable[[Socket], Any]) -> None:
    socket = await Socket(SocketProtocol).opened()
    socket.may_read.clear()
    await socket.receives(frame(TEXT, b"one"))
    await end(socket)
    written = socket.wire.written
    socket.may_read.set()
    await turns()
    assert isinstance(socket.error, OSError)
    assert socket.wire.written == written


async def test_an_answer_that_waits_is_given_up_with_the_connection() -> None:
    socket = await Socket(SocketProtocol).opened()
    socket.protocol.pause_writing()
    await socket.receives(frame(TEXT, b"one"))
    await socket.lost()
    assert isinstance(socket.error, OSError)
    assert socket.wire.written == b""


async def test_frames_that_came_before_the_end_are_received_before_it() -> None:
    socket = await Socket(SocketProtocol).opened()
    assert isinstance(socket.channel, DirectChannel)
    socket.may_read.clear()
    await socket.receives(frame(TEXT, b"one"), frame(TEXT, b"two"), frame(CLOSE, b"\x03\xe8"))
    assert socket.wire.closing
    assert await socket.channel.receive() == "two"
    assert await socket.channel.receive() is None
    assert await socket.channel.receive() is None


async def test_a_socket_that_was_refused_may_be_closed_as_well() -> None:
    socket = await Socket(SocketProtocol).opened()
    assert isinstance(socket.channel, DirectChannel)
    await _refused(socket)
    written = socket.wire.written
    await socket.channel.close(1012)
    assert (socket.wire.written, socket.wire.ended) == (written, True)


async def _closes(socket: Socket) -> None:
    assert socket.channel is not None
    await socket.channel.close(1000)


async def _shuts_down(socket: Socket) -> None:
    socket.protocol.shutdown()


async def _receives_a_close_frame(socket: Socket) -> None:
    socket.protocol.data_received(frame(CLOSE, b"\x03\xe8"))


async def _receives_a_frame_too_long(socket: Socket) -> None:
    socket.protocol.data_received(frame(TEXT, b"x" * (LIMIT_BYTES + 1)))


async def _sends(socket: Socket, text: bytes) -> None:
    assert socket.channel is not None
    await socket.channel.send(text)


async def _posts(socket: Socket, text: bytes) -> None:
    """Answer as a step is answered, when another socket's answer has left a moment ago."""
    assert socket.channel is not None
    outbox_of(socket.server).put(Wire(), b"another's")
    socket.channel.post(text)


@pytest.mark.parametrize("ends", [_closes, _shuts_down, _receives_a_close_frame, _receives_a_frame_too_long])
@pytest.mark.parametrize("answers", [_sends, _posts])
async def test_an_answer_of_the_same_turn_leaves_before_a_close_frame(
    answers: Callable[[Socket, bytes], Any], ends: Callable[[Socket], Any]
) -> None:
    socket = await Socket(SocketProtocol).opened()
    await answers(socket, b"one")
    await ends(socket)
    answer = text_frame(b"one")
    assert socket.wire.written.startswith(answer)
    assert socket.wire.written[len(answer)] == 0x80 | CLOSE


async def _receives_a_ping(socket: Socket) -> None:
    socket.protocol.data_received(frame(PING, b"?"))


async def _sends_more(socket: Socket) -> None:
    await _sends(socket, b"two")


@pytest.mark.parametrize(
    ("goes_on", "written"), [(_receives_a_ping, bytes((0x80 | PONG, 1)) + b"?"), (_sends_more, text_frame(b"two"))]
)
async def test_a_posted_answer_leaves_before_what_is_written_behind_it(
    goes_on: Callable[[Socket], Any], written: bytes
) -> None:
    socket = await Socket(SocketProtocol).opened()
    await _posts(socket, b"one")
    await goes_on(socket)
    assert socket.wire.written == text_frame(b"one") + written


async def test_posted_answers_of_many_sockets_are_written_when_the_turn_ends() -> None:
    server = ServerState()
    sockets = [await Socket(SocketProtocol, server).opened() for _ in range(5)]
    for number, socket in enumerate(sockets):
        await _posts(socket, b"%d" % number)
        await _posts(socket, b"and %d" % number)
    await turns()
    for number, socket in enumerate(sockets):
        assert socket.wire.written == text_frame(b"%d" % number) + text_frame(b"and %d" % number)


async def test_nothing_is_posted_behind_a_close_frame_or_to_a_client_that_is_gone() -> None:
    server = ServerState()
    closed, left = [await Socket(SocketProtocol, server).opened() for _ in range(2)]
    await _closes(closed)
    written = closed.wire.written
    await _posts(closed, b"one")
    await _posts(left, b"one")
    left.wire.closing = True
    await turns()
    assert (closed.wire.written, left.wire.written) == (written, b"")


async def test_an_answer_of_the_same_turn_leaves_before_the_app_fails() -> None:
    socket = await Socket(SocketProtocol).opened()
    socket.fails = True
    await socket.receives(frame(TEXT, b"one"))
    assert socket.wire.written == text_frame(b"one")
    assert socket.wire.closing


async def test_a_socket_that_is_gone_is_no_garbage() -> None:
    socket = await Socket(SocketProtocol).opened()
    await socket.receives(frame(TEXT, b"one"), frame(PING, b"?"))
    gone = weakref.ref(socket.protocol)
    gc.disable()
    try:
        await socket.lost()
        del socket.protocol, socket.channel
        assert gone() is None
    finally:
        gc.enable()
