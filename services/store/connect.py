"""A redis-py client from a URL, set so that nothing is ever sent twice behind our back.

redis-py retries ten times by default, whatever the command; here only the engine sends again,
and always the same commit. So its retries are off, each attempt has a third of the caller's
deadline, and no pings are sent before commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from .request import Replicas

ATTEMPTS = 3
"""Attempts that fit in a deadline."""
WAIT_SHARE = 0.5
"""The part of an attempt that replicas may take: Redis says how many have it before we stop listening."""

FORMS = (
    "redis://[user:password@]host[:port][/db], rediss://..., "
    "redis+sentinel://[user:password@]host:port,host:port/service[/db]"
    "[?sentinel_username=...&sentinel_password=...], "
    "redis+cluster://[user:password@]host:port,host:port"
)
_TLS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})
_SENTINELS_OWN = {"sentinel_username": "username", "sentinel_password": "password"}


def open_client(url: str, *, timeout_s: float) -> Redis | RedisCluster:
    """The client for a URL; connects at first use.

    The login of a Sentinel URL is the Redis'; the sentinels' own stands in the query. Raises
    ValueError for a malformed URL, with a text that shows no part of it that may be secret.
    """
    try:
        parts = urlsplit(url)
        user, password, addresses = _addresses(parts)
        path = [unquote(part) for part in parts.path.split("/") if part]
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        _refuse("it cannot be parsed")
    if parts.fragment:
        _refuse("a '#' in a password is written %23")
    options = _options(timeout_s) | ({"username": user, "password": password} if password is not None else {})
    match parts.scheme:
        case "redis" | "rediss":
            return _single(addresses, path, query, options, tls=parts.scheme == "rediss")
        case "redis+sentinel":
            return _sentinel(addresses, path, query, options, timeout_s)
        case "redis+cluster":
            return _cluster(addresses, path, query, options)
    return _refuse("its scheme is none of these")


def wait_for(count: int, *, timeout_s: float) -> Replicas | None:
    """The replicas that must have a write before it counts, of a client with this deadline; None for none."""
    return Replicas(count, max(1, round(1000 * WAIT_SHARE * timeout_s / ATTEMPTS))) if count else None


def _options(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s / ATTEMPTS,
        "socket_connect_timeout": timeout_s / ATTEMPTS,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }


def _addresses(parts: SplitResult) -> tuple[str | None, str | None, list[tuple[str, int | None]]]:
    login, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    found = []
    for host in hosts.split(","):
        one = urlsplit(f"//{host}")
        if not one.hostname:
            raise ValueError
        found.append((one.hostname, one.port))
    return unquote(user) or None, unquote(password) if colon else None, found


def _single(
    addresses: list[tuple[str, int | None]],
    path: list[str],
    query: Mapping[str, Any],
    options: dict[str, Any],
    *,
    tls: bool,
) -> Redis:
    if len(addresses) != 1:
        _refuse("it names one host; several belong to redis+sentinel:// or redis+cluster://")
    unknown = set(query) - (_TLS if tls else set())
    if unknown:
        _refuse("its query may only hold, for rediss://, " + ", ".join(sorted(_TLS)))
    host, port = addresses[0]
    return Redis(host=host, port=port or 6379, db=_database(path), ssl=tls, **query, **options)


def _sentinel(
    addresses: list[tuple[str, int | None]],
    path: list[str],
    query: Mapping[str, Any],
    options: dict[str, Any],
    timeout_s: float,
) -> Redis:
    if not path:
        _refuse("it names no service: redis+sentinel://host:26379/service")
    if set(query) - set(_SENTINELS_OWN) or ("sentinel_username" in query and "sentinel_password" not in query):
        _refuse("its query may only hold sentinel_password and sentinel_username, the latter not alone")
    hosts = [(host, port or 26379) for host, port in addresses]
    asking = _options(timeout_s) | {_SENTINELS_OWN[name]: value for name, value in query.items()}
    sentinel: Any = Sentinel(hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]  # redis-py's
    client: Redis = sentinel.master_for(path[0], db=_database(path[1:]), **options)
    return client


def _cluster(
    addresses: list[tuple[str, int | None]], path: list[str], query: Mapping[str, Any], options: dict[str, Any]
) -> RedisCluster:
    if path or query:
        _refuse("a cluster has neither databases nor a query")
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port or 6379) for host, port in addresses],
        require_full_coverage=False,
        **options,
    )


def _database(path: list[str]) -> int:
    if not path:
        return 0
    if len(path) > 1 or not path[0].isascii() or not path[0].isdigit():
        _refuse("the database is a number")
    return int(path[0])


def _refuse(reason: str) -> NoReturn:
    message = f"not a Redis URL: {reason}. Allowed: {FORMS}"
    raise ValueError(message) from None
