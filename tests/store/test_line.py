"""The line to a Redis: whose reply is whose, what a broken one means, and what it holds, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from services.store.base import Outcome, StoreUnavailable, Word
from services.store.batch import MAX_BYTES, MAX_IN_FLIGHT
from services.store.connect import open_client
from services.store.line import Line
from services.store.redis import RedisStore
from services.store.scripts import Command
from tests.balancer.certificates import make_certificate
from tests.redis_servers import RedisServer, free_port, redis_server
from tests.store.samples import draft, step, until
from tests.store.scripted_server import ScriptedServer, scripted_server

pytestmark = pytest.mark.anyio
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A worker runs on uvloop; on Windows there is none."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as one:
        yield one


@pytest.fixture
async def store(server: ScriptedServer) -> AsyncIterator[RedisStore]:
    """A store that bears three seconds of silence."""
    one = store_at(server)
    yield one
    await one.close()


def store_at(server: ScriptedServer, *, attempts_s: float = 9, timeout_s: float = 9) -> RedisStore:
    client = open_client(server.url, timeout_s=attempts_s)
    return RedisStore(client, max_sessions=10, ttl_ms=60_000, timeout_s=timeout_s)


def ask(store: RedisStore, word: str) -> asyncio.Future[Any]:
    return store._batcher.send(Command("key", ("ECHO", word)))


def line_of(store: RedisStore) -> Line:
    line = store._batcher._queues["redis"].line
    assert line is not None
    return line


def echo(command: list[bytes]) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(command[1]), command[1])


async def failure(asked: asyncio.Future[Any]) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await asked
    return caught.value


async def in_flight(server: ScriptedServer, store: RedisStore, words: list[str]) -> list[asyncio.Future[Any]]:
    """A batch a word, and one that waits behind them."""
    asked = []
    for count, word in enumerate(words, 1):
        asked.append(ask(store, word))
        if count <= MAX_IN_FLIGHT:
            await server.was_asked(count)
    return asked


async def test_each_gets_its_own_reply_whoever_was_cancelled_and_however_it_is_cut(
    server: ScriptedServer, store: RedisStore
) -> None:
    first, cancelled, last = [ask(store, word) for word in ("first", "cancelled", "last")]
    await server.was_asked(3)
    cancelled.cancel()
    for byte in b"".join([echo(command) for command in server.asked]):
        server.say(bytes([byte]))
        await asyncio.sleep(0)
    assert (await first, await last) == (b"first", b"last")
    server.answer = echo
    assert await ask(store, "next") == b"next"
    assert server.connections == 1


async def test_one_that_was_cancelled_before_its_turn_is_not_sent(server: ScriptedServer, store: RedisStore) -> None:
    server.answer = echo
    cancelled, kept = ask(store, "cancelled"), ask(store, "kept")
    cancelled.cancel()
    assert await kept == b"kept"
    assert server.asked == [[b"ECHO", b"kept"]]


@pytest.mark.parametrize("ending", ["nonsense", "hanging up"])
async def test_a_broken_line_leaves_what_was_sent_unknown_and_what_waits_undone(
    server: ScriptedServer, store: RedisStore, ending: str
) -> None:
    contact_since = store._contact._since
    *sent, waits = await in_flight(server, store, ["one", "two", "three"])
    if ending == "nonsense":
        server.say(b"?nonsense\r\n")
    else:
        server.hang_up()
    assert [(await failure(one)).unknown for one in [*sent, waits]] == [True, True, False]
    assert store._contact._since > contact_since
    server.answer = echo
    assert await ask(store, "again") == b"again"  # the first one after a failure tries at once
    assert server.connections == 2
    assert store._batcher._waiting == 0


@pytest.mark.parametrize("ending", ["a reply to nothing", "hanging up"])
async def test_a_line_that_breaks_while_idle_costs_nobody_anything(
    server: ScriptedServer, store: RedisStore, ending: str
) -> None:
    server.answer = echo
    assert await ask(store, "before") == b"before"
    if ending == "a reply to nothing":
        server.say(echo([b"ECHO", b"nobody's"]))
    else:
        server.hang_up()
    await server.has_open(0)
    assert await ask(store, "after") == b"after"
    assert server.connections == 2


async def test_a_server_that_refuses_for_good_is_left_once_what_is_in_flight_has_come_home(
    server: ScriptedServer, store: RedisStore
) -> None:
    refused, answered, waits = await in_flight(server, store, ["refused", "answered", "waits"])
    server.say(b"-READONLY You can't write against a read only replica.\r\n")
    told = await failure(refused)
    assert (told.unknown, str(told).startswith("refused: READONLY")) == (False, True)
    assert (await failure(waits)).unknown is False
    assert server.open_connections == 1
    server.say(echo([b"ECHO", b"answered"]))
    assert await answered == b"answered"
    await server.has_open(0)
    server.answer = echo
    assert await ask(store, "again") == b"again"
    assert server.connections == 2


async def test_a_script_that_stays_unknown_is_refused_with_certainty(server: ScriptedServer, store: RedisStore) -> None:
    server.answer = lambda _: b"-NOSCRIPT No matching script.\r\n"
    with pytest.raises(StoreUnavailable, match="NOSCRIPT") as caught:
        await store.commit("s", step(1))
    assert caught.value.unknown is False
    assert [command[0] for command in server.asked] == [b"EVALSHA", b"EVAL"]


async def test_a_redirection_that_names_no_host_is_to_the_same_one(server: ScriptedServer, store: RedisStore) -> None:
    server.answer = lambda _: b"-MOVED 7 :7000\r\n"
    told = await failure(ask(store, "moved"))
    assert told.unknown is False
    assert "redirected to :7000" in str(told)


async def test_a_server_that_is_slow_but_not_silent_is_waited_for(server: ScriptedServer) -> None:
    store = store_at(server, attempts_s=3)
    server.answer = echo
    server.pace_s = 0.25
    words = [f"word {number}" for number in range(8)]
    assert await asyncio.gather(*[ask(store, word) for word in words]) == [word.encode() for word in words]
    assert server.connections == 1
    await store.close()


@pytest.mark.parametrize(("attempts_s", "timeout_s"), [(1.5, 30), (90, 0.5)], ids=["an attempt", "the deadline"])
async def test_a_silent_server_is_given_up_after_an_attempt_and_within_the_deadline(
    server: ScriptedServer, attempts_s: float, timeout_s: float
) -> None:
    store = store_at(server, attempts_s=attempts_s, timeout_s=timeout_s)
    server.answer = lambda command: echo(command) if command[1] == b"one" else None
    began = monotonic()
    answered, silent = ask(store, "one"), ask(store, "two")
    assert await answered == b"one"
    told = await failure(silent)
    assert (told.unknown, "no answer in time" in str(told)) == (True, True)
    assert 0.4 < monotonic() - began < 10
    server.answer = echo
    assert await ask(store, "again") == b"again"
    await store.close()


async def test_a_server_that_does_not_read_is_sent_no_more_than_the_batches_in_flight(
    server: ScriptedServer, store: RedisStore
) -> None:
    server.answer = echo
    assert await ask(store, "warm") == b"warm"
    server.reads.clear()
    asked = [ask(store, "x" * MEGABYTE) for _ in range(40)]

    async def full() -> bool:
        return not line_of(store).writable

    await until(full)
    held = line_of(store)._transport.get_write_buffer_size()
    assert 0 < held <= MAX_IN_FLIGHT * (MAX_BYTES + 2 * MEGABYTE)
    assert store._batcher._waiting > 20
    server.reads.set()
    assert {len(reply) for reply in await asyncio.gather(*asked)} == {MEGABYTE}
    assert server.connections == 1


async def test_closing_lets_what_is_in_flight_come_home_and_then_hangs_up(
    server: ScriptedServer, store: RedisStore
) -> None:
    *sent, waits = await in_flight(server, store, ["one", "two", "three"])
    closing = asyncio.ensure_future(store.close())
    assert "closed" in str(await failure(waits))
    assert "closed" in str(await failure(ask(store, "late")))
    assert not closing.done()
    for command in server.asked:
        server.say(echo(command))
    assert await asyncio.gather(*sent) == [b"one", b"two"]
    await closing
    await server.has_open(0)


async def test_closing_breaks_off_a_connection_that_is_being_made(server: ScriptedServer) -> None:
    store = RedisStore(open_client("redis+sentinel://127.0.0.1:1/x", timeout_s=9), max_sessions=1, ttl_ms=60_000)
    taking = asyncio.Event()

    async def never() -> Any:
        taking.set()
        await asyncio.Event().wait()

    lane: Any = store._lanes
    lane.take = never
    asked = ask(store, "one")
    await taking.wait()
    await store.close()
    assert (await failure(asked)).unknown is False


async def test_a_client_library_made_otherwise_is_an_error_and_no_silence() -> None:
    class Otherwise:
        socket_timeout = None

        async def disconnect(self) -> None:
            done.append("disconnected")

    async def take() -> Otherwise:
        return Otherwise()

    async def give(_: Otherwise) -> None:
        done.append("given back")

    store = RedisStore(open_client("redis://127.0.0.1:1", timeout_s=9), max_sessions=1, ttl_ms=60_000)
    done: list[str] = []
    lane: Any = store._lanes
    lane.take, lane.give = take, give
    told = await failure(ask(store, "one"))
    await store.close()
    assert (told.unknown, "_writer" in str(told)) == (False, True)
    assert done == ["disconnected", "given back"]


@pytest.fixture(scope="module")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, str]]:
    """A Redis that also speaks TLS, and the URL."""
    folder: Path = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    key, chain, port = folder / "key.pem", folder / "chain.pem", free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(chain), "--tls-key-file", str(key), "--tls-ca-cert-file", str(chain)]
    with redis_server(folder, *options) as server:
        yield server, f"rediss://127.0.0.1:{port}?ssl_ca_certs={chain}"


async def test_a_line_over_tls_is_like_any(tls_redis: tuple[RedisServer, str]) -> None:
    server, url = tls_redis
    with server.client() as client:
        client.flushall()
    store = RedisStore(open_client(url, timeout_s=9), max_sessions=100, ttl_ms=60_000)
    await store.make("s", draft())
    assert await store.commit("s", step(1)) == Outcome(Word.COMMITTED)
    large = await asyncio.gather(*[ask(store, "x" * MEGABYTE) for _ in range(8)])
    assert {len(reply) for reply in large} == {MEGABYTE}
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)

    async def broken() -> bool:
        return store._batcher._queues["redis"].line is None

    await until(broken)
    assert await store.commit("s", step(2)) == Outcome(Word.COMMITTED)
    await store.end("s")
    await store.close()


@pytest.mark.parametrize(
    "reply", [b"*1\r\n$9\r\ncommitted\r\n?garbled\r\n", b"*2\r\n$5\r\nstale\r\n$33\r\n1n" + b"x" * 31 + b"\r\n"]
)
async def test_what_became_of_a_commit_is_told_once_whatever_comes_behind_it(
    server: ScriptedServer, store: RedisStore, reply: bytes
) -> None:
    answers = iter([None, reply, None])
    server.answer = lambda _: next(answers, None)
    said: dict[str, list[object]] = {"a": [], "b": []}
    for name, told in said.items():
        store.commit_soon(name, step(1), told.append)

    async def all_told() -> bool:
        return all(said.values())

    await until(all_told)
    await asyncio.sleep(0.05)
    assert [len(told) for told in said.values()] == [1, 1]
    assert any(isinstance(told[0], StoreUnavailable) for told in said.values())
