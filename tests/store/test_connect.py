"""Clients from URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster

from services.store.base import Outcome, StoreUnavailable, Word
from services.store.connect import open_client
from services.store.redis import RedisStore
from tests.redis_servers import RedisServer, free_port, redis_server
from tests.store.samples import draft, step, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "http://host",
        "redis://",
        "redis://host:port",
        "redis://host:99999",
        "redis://:s3cret@host/name",
        "redis://:s3cret@host/1/2",
        "redis://:s3cret@a,b",
        "redis://:s3cret@host?db=1",
        "redis://:s3cret@host?ssl_ca_certs=/x",
        "rediss://:s3cret@host?nonsense=1",
        "redis://:s3cret#@host",
        "redis://:s3cret@[::1",
        "redis+sentinel://:s3cret@host:1",
        "redis+sentinel://:s3cret@host:1/service/x",
        "redis+sentinel://:s3cret@host:1,/service",
        "redis+sentinel://host:1/service?sentinel_pass=s3cret",
        "redis+sentinel://host:1/service?sentinel_username=s3cret",
        "redis://host?sentinel_password=s3cret",
        "redis+cluster://:s3cret@host:1/1",
        "redis+cluster://:s3cret@host:x",
    ],
)
async def test_a_malformed_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="not a Redis URL") as caught:
        open_client(url, timeout_s=5)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", {"host": "host", "port": 6379, "db": 0}),
        ("redis://user:p%40ss@host:1/3", {"host": "host", "port": 1, "db": 3, "username": "user", "password": "p@ss"}),
        ("rediss://:p@[::1]:1?ssl_cert_reqs=none", {"host": "::1", "password": "p", "ssl_cert_reqs": "none"}),
        ("redis+sentinel://u:p@a:1,b/service/2", {"username": "u", "password": "p", "db": 2}),
    ],
)
async def test_a_url_s_parts_reach_the_connections(url: str, expected: dict[str, object]) -> None:
    client = open_client(url, timeout_s=6)
    assert isinstance(client, Redis)
    options = client.connection_pool.connection_kwargs
    assert expected.items() <= options.items()
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (2, 2)
    assert options["retry"].get_retries() == 0
    await client.aclose()


async def test_a_sentinel_s_own_login_reaches_only_the_sentinels() -> None:
    url = "redis+sentinel://u:p@a:1,b/service?sentinel_username=s&sentinel_password=q%26%3D"
    client = open_client(url, timeout_s=6)
    assert isinstance(client, Redis)
    sentinels = client.connection_pool.sentinel_manager.sentinels  # type: ignore[attr-defined]
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
    assert [(one["host"], one["port"], one["username"], one["password"]) for one in asked] == [
        ("a", 1, "s", "q&="),
        ("b", 26379, "s", "q&="),
    ]
    assert client.connection_pool.connection_kwargs["password"] == "p"
    await client.aclose()


async def test_a_cluster_s_url_names_its_first_nodes() -> None:
    client = open_client("redis+cluster://u:p@a:1,b:2", timeout_s=6)
    assert isinstance(client, RedisCluster)
    assert [(node.host, node.port) for node in client.startup_nodes] == [("a", 1), ("b", 2)]
    assert client.connection_kwargs["password"] == "p"
    assert client.retry.get_retries() == 0
    await client.aclose()


async def test_sentinel_s_word_is_followed_to_the_new_master(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "one", "--repl-diskless-sync-delay", "0") as one,
        redis_server(tmp_path / "two") as two,
    ):
        sentinel = RedisServer(tmp_path / "sentinel")
        (tmp_path / "sentinel").mkdir()
        config = tmp_path / "sentinel" / "sentinel.conf"
        config.write_text(f"port {sentinel.port}\nsentinel monitor pool 127.0.0.1 {one.port} 1\n")
        with redis_server(tmp_path / "sentinel", port=sentinel.port, before=(str(config), "--sentinel")) as asked:
            store = RedisStore(
                open_client(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{asked.port}/pool/0", timeout_s=6),
                max_sessions=5,
                ttl_ms=60_000,
            )
            assert await store.make("s", draft()) == Outcome(Word.MADE)
            with one.client() as old, two.client() as new:
                new.replicaof("127.0.0.1", str(one.port))

                async def copied() -> bool:
                    return bool(new.dbsize() == 2 and new.info("replication")["master_link_status"] == "up")

                await until(copied)
                new.replicaof("NO", "ONE")
                old.replicaof("127.0.0.1", str(two.port))
            with asked.client() as moved:
                moved.execute_command("SENTINEL", "REMOVE", "pool")
                moved.execute_command("SENTINEL", "MONITOR", "pool", "127.0.0.1", two.port, 1)

            async def goes_on() -> bool:
                try:
                    return (await store.commit("s", step(1))).word in {Word.COMMITTED, Word.REPLAYED}
                except StoreUnavailable:
                    return False

            await until(goes_on)
            await store.close()
