"""Who counts as an operator on a server without API keys: whoever is on this machine, and nobody who only says so."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from metagame.errors import Forbidden
from metagame.wire.answers import error_of_body
from services.surfaces.operators import KEYED, PEER, is_operator
from tests.balancer.haproxy import Balancer
from tests.redis_servers import free_port
from tests.servers import Server, run_server
from tests.survival.workers import until

HERE = ("127.0.0.1", 50_000)
THERE = ("203.0.113.7", 50_000)
PREFIX = "/envs/metagame"
"""A root path that the tests' proxies leave where it is."""


def scope(
    client: tuple[str, int] | None = HERE, *, hosts: tuple[str, ...] = ("localhost:8000",), **said: str
) -> dict[str, Any]:
    """A request under another server, with these headers."""
    headers = [(b"host", host.encode()) for host in hosts]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in said.items()]
    return {"type": "http", "client": client, "headers": headers}


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "127.0.0.1", "127.3.2.1:80", "[::1]", "[::1]:8000"])
def test_a_loopback_name_is_this_machine(host: str) -> None:
    assert is_operator(scope(hosts=(host,)))


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        ("metagame.example",),
        ("localhost.evil.example",),
        ("127.0.0.1.evil.example",),
        ("evil.example:127",),
        ("10.0.0.1",),
        ("[::2]:8000",),
        ("[::1]evil.example",),
        ("localhost@evil.example",),
        ("localhost", "evil.example"),
        ("localhost", "localhost"),
    ],
)
def test_a_page_whose_name_leads_here_does_not_see_the_pool(hosts: tuple[str, ...]) -> None:
    assert not is_operator(scope(hosts=hosts))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_address_is_this_machine(address: str) -> None:
    assert is_operator(scope((address, 1)))
    assert is_operator(scope() | {PEER: (address, 1)})


@pytest.mark.parametrize("client", [THERE, ("10.0.0.1", 1), ("::2", 1), ("::ffff:10.0.0.1", 1), ("unix", 1), None])
def test_whoever_connects_from_elsewhere_is_none(client: tuple[str, int] | None) -> None:
    assert not is_operator(scope(client))
    assert not is_operator(scope() | {PEER: client})


@pytest.mark.parametrize(
    "said", ["127.0.0.1", "::1", "127.0.0.1, ::1", "127.0.0.1:4711", "[::1]:4711", "127.0.0.1,127.0.0.2"]
)
def test_a_proxy_on_this_machine_may_ask_for_somebody_on_it(said: str) -> None:
    assert is_operator(scope(x_forwarded_for=said) | {PEER: HERE})


@pytest.mark.parametrize(
    "said",
    ["203.0.113.7", "127.0.0.1, 203.0.113.7", "203.0.113.7, 127.0.0.1", "", ",", "127.0.0.1,", "unknown", "localhost"],
)
def test_every_address_that_a_proxy_names_counts(said: str) -> None:
    assert not is_operator(scope(x_forwarded_for=said) | {PEER: HERE})
    assert not is_operator(scope(x_real_ip=said) | {PEER: HERE})


def test_all_the_headers_of_that_name_count() -> None:
    both = scope() | {PEER: HERE}
    both["headers"] += [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-for", b"203.0.113.7")]
    assert not is_operator(both)


@pytest.mark.parametrize("origin", ["http://localhost:8000", "https://LOCALHOST:8000"])
def test_the_servers_own_page_in_a_browser_here_is_let_in(origin: str) -> None:
    assert is_operator(scope(origin=origin))


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost", "http://localhost:3000", "null", ""])
def test_a_page_of_another_website_in_a_browser_here_is_not(origin: str) -> None:
    assert not is_operator(scope(origin=origin))


def test_what_is_forwarded_in_words_that_are_not_read_is_refused() -> None:
    assert not is_operator(scope(forwarded="for=127.0.0.1") | {PEER: HERE})


def test_under_another_server_nobody_knows_who_sent_what_is_forwarded() -> None:
    # uvicorn, told to trust everybody, has put the address that the header claims in the place of the client's.
    assert not is_operator(scope(x_forwarded_for="127.0.0.1"))


def test_the_address_that_a_trusted_proxy_claims_is_not_the_connections_own() -> None:
    assert not is_operator(scope(HERE, x_forwarded_for="127.0.0.1") | {PEER: THERE})


@pytest.mark.parametrize("client", [HERE, THERE])
def test_where_there_are_keys_only_a_key_counts(client: tuple[str, int]) -> None:
    assert is_operator(scope(client, hosts=("metagame.example",)) | {KEYED: True})
    assert not is_operator(scope(client) | {KEYED: False})


def listed(url: str, **headers: str) -> httpx.Response:
    return httpx.get(
        f"{url}/sessions", headers={name.replace("_", "-"): value for name, value in headers.items()}, trust_env=False
    )


def test_a_refusal_says_what_to_do_and_shows_no_id(echo_server: Server) -> None:
    httpx.post(f"{echo_server.url}/sessions", json={"session_id": "theirs"}, trust_env=False)
    assert listed(echo_server.url).json()["sessions"][0]["session_id"] == "theirs"
    refused = listed(echo_server.url, host="metagame.example")
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    error = error_of_body(refused.content)
    assert type(error) is Forbidden
    assert "METAGAME_API_KEYS" in error.message
    assert "theirs" not in refused.text


def test_a_website_that_may_play_here_does_not_see_the_pool_of_whoever_visits_it() -> None:
    with run_server(METAGAME_ALLOWED_ORIGINS="*") as server:
        page = {"origin": "https://evil.example"}
        assert httpx.post(f"{server.url}/sessions", headers=page, trust_env=False).status_code == 201
        for path in ("/sessions", "/pool"):
            assert httpx.get(server.url + path, headers=page, trust_env=False).status_code == 403
            assert httpx.get(server.url + path, headers={"origin": server.url}, trust_env=False).status_code == 200


def test_one_session_stays_open_to_whoever_has_its_id(echo_server: Server) -> None:
    with httpx.Client(base_url=echo_server.url, headers={"host": "metagame.example"}, trust_env=False) as elsewhere:
        assert elsewhere.post("/sessions", json={"session_id": "one"}).status_code == 201
        assert elsewhere.get("/sessions/one").json()["session_id"] == "one"
        assert elsewhere.delete("/sessions/one").status_code == 204


@pytest.fixture(scope="module", params=["127.0.0.1", "*"])
def open_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One that listens on every address, and believes some proxies or all."""
    settings = {"METAGAME_HOST": "0.0.0.0", "METAGAME_ROOT_PATH": PREFIX}
    with run_server(METAGAME_FORWARDED_ALLOW_IPS=request.param, **settings) as server:
        yield server


@pytest.fixture
def port(open_server: Server) -> str:
    return open_server.url.rpartition(":")[2]


def test_asked_directly_this_machine_lists_and_another_does_not_whatever_it_says(port: str) -> None:
    for prefix in ("", PREFIX):
        assert listed(f"http://127.0.0.1:{port}{prefix}").status_code == 200
    elsewhere = own_address()
    for said in ({}, {"x_forwarded_for": "127.0.0.1"}, {"x_real_ip": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
        refused = listed(f"http://{elsewhere}:{port}", host="localhost", **said)
        assert (said, refused.status_code) == (said, 403)


def own_address() -> str:
    """An address of this machine that is not loopback; whoever connects to it comes from it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no network, so nobody comes from elsewhere")
        address: str = probe.getsockname()[0]
    return address


@pytest.fixture
async def balanced(port: str, tmp_path: Path) -> AsyncIterator[Balancer]:
    """A balancer on every address, before the one server."""
    bound = free_port()
    with ExitStack() as stack:
        one = Balancer(tmp_path, [int(port)], BALANCER_BIND=f":{bound}")
        one.port, one.url = bound, f"http://127.0.0.1:{bound}"
        one.start()
        stack.callback(one.stop)
        await until(lambda: one.up() == {"w1"}, "the server in rotation")
        yield one


@pytest.fixture
async def elsewhere(port: str, tmp_path: Path) -> AsyncIterator[Balancer]:
    """A balancer that reaches the server by a network, as in compose."""
    one = Balancer(tmp_path, [int(port)])
    (tmp_path / "workers.cfg").write_text(f"backend workers from pool\n    server w1 {own_address()}:{port}\n")
    one.start()
    try:
        await until(lambda: one.up() == {"w1"}, "the server in rotation")
        yield one
    finally:
        one.stop()


@pytest.mark.anyio
async def test_behind_a_balancer_that_comes_by_a_network_nobody_is_this_machine(elsewhere: Balancer) -> None:
    for said in ({}, {"x_forwarded_for": "127.0.0.1"}):
        assert listed(elsewhere.url, **said).status_code == 403


@pytest.mark.anyio
async def test_behind_a_balancer_on_this_machine_the_same_holds(balanced: Balancer) -> None:
    for prefix in ("", PREFIX):
        assert listed(balanced.url + prefix).status_code == 200
    assert listed(balanced.url, x_forwarded_for="203.0.113.7").status_code == 403, "a proxy before the balancer"
    elsewhere = f"http://{own_address()}:{balanced.port}"
    for said in ({}, {"x_forwarded_for": "127.0.0.1"}, {"x_forwarded_for": "127.0.0.1, 127.0.0.1"}):
        assert (said, listed(elsewhere, host="localhost", **said).status_code) == (said, 403)
