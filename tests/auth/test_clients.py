"""Our clients, and OpenEnv's, on a server with keys."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from metagame import AsyncMetaGameEnv, InvalidRequest, MetaGameEnv, Unauthorized
from metagame.client.keys import VARIABLE, key_headers
from metagame.client.options import ClientOptions
from tests.auth.conftest import FIRST, SECOND
from tests.balancer.haproxy import balancer
from tests.openenv.conftest import Driver, drive, openenv
from tests.servers import Server
from tests.survival.workers import until

__all__ = ["drive", "openenv"]

TRANSPORTS = ("websocket", "http")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_with_a_key_plays(keyed: Server, transport: str) -> None:
    async with AsyncMetaGameEnv(keyed.url, transport=transport, api_key=FIRST) as env:  # type: ignore[arg-type]
        await env.reset()
        assert (await env.step({"message": "abc"})).reward == 0.3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_key_may_come_from_the_environment(keyed: Server, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECOND)
    with MetaGameEnv(keyed.url, transport=transport) as env:  # type: ignore[arg-type]
        env.reset()
    with MetaGameEnv(keyed.url, transport=transport, api_key="") as env, pytest.raises(Unauthorized):  # type: ignore[arg-type]
        env.reset()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_key_does_not_take_the_place_of_other_headers(keyed: Server, transport: str) -> None:
    url = keyed.url.replace("//", "//user:password@")
    with MetaGameEnv(url, transport=transport, api_key=FIRST, headers={"X-Other": "a"}) as env:  # type: ignore[arg-type]
        env.reset()
    with MetaGameEnv(keyed.url, transport=transport, headers={"Authorization": f"Bearer {SECOND}"}) as env:  # type: ignore[arg-type]
        env.reset()


@pytest.mark.parametrize("api_key", [None, "third-key.3"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_without_a_key_of_the_servers_is_told_at_once_and_what_to_do(
    keyed: Server, transport: str, api_key: str | None
) -> None:
    began = time.monotonic()
    with MetaGameEnv(keyed.url, transport=transport, api_key=api_key) as env:  # type: ignore[arg-type]
        for call in (env.reset, env.state, lambda: env.step({"message": "x"})):
            with pytest.raises(Unauthorized, match=r"api_key=.*METAGAME_API_KEY") as refused:
                call()
            assert "third" not in str(refused.value)
            assert not refused.value.retryable
    assert time.monotonic() - began < 30, "it waits for no deadline"


@pytest.mark.parametrize("wrong", ["short", "two words", "line\n", "x" * 300, "schlüssel"])
def test_what_is_no_key_is_refused_before_it_is_sent_and_not_shown(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="api_key is no API key") as refused:
        MetaGameEnv(api_key=wrong)
    monkeypatch.setenv(VARIABLE, wrong)
    with pytest.raises(InvalidRequest, match="METAGAME_API_KEY is no API key") as named:
        key_headers()
    assert wrong not in str(refused.value) + str(named.value)


def test_options_that_are_shown_show_no_key() -> None:
    assert FIRST not in repr(ClientOptions(api_key=FIRST, headers={"X-API-Key": FIRST}))


def test_openenvs_own_client_class_takes_the_key_too(drive: Driver, keyed: Server) -> None:
    told = drive("used_in_every_way", keyed.url, METAGAME_API_KEY=FIRST)
    assert told["ready"] == "Meta Game environment ready!"
    assert told["child"] == [1, 1]
    assert drive("keyed", keyed.url, SECOND, "third-key.3") == [0.3, 0.3, ["RuntimeError", "Unauthorized"]]


@pytest.mark.anyio
async def test_a_balancer_needs_no_key_and_passes_keys_and_refusals_on(keyed: Server, tmp_path: Path) -> None:
    with balancer(tmp_path, [int(keyed.url.rpartition(":")[2])]) as one:
        await until(lambda: one.up() == {"w1"}, "the server in rotation")
        for transport in TRANSPORTS:
            async with AsyncMetaGameEnv(one.url, transport=transport, api_key=FIRST) as env:  # type: ignore[arg-type]
                await env.reset()
            async with AsyncMetaGameEnv(one.url, transport=transport) as env:  # type: ignore[arg-type]
                with pytest.raises(Unauthorized):
                    await env.reset()
