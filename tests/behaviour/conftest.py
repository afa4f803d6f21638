import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.behaviour.apps import Pool, running_pool
from tests.games.play import PLAYS, Play
from tests.redis_servers import RedisServer, redis_server

STORES = ("memory", "redis")


@pytest.fixture(scope="package", autouse=True)
def quiet_log() -> Iterator[None]:
    """No lines of sessions that come and go, and of games that fail."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="package")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for this package; each pool has a database of its own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=PLAYS)
def play(request: pytest.FixtureRequest) -> Play:
    return PLAYS[request.param]


@pytest.fixture(scope="module", params=STORES)
def pool(request: pytest.FixtureRequest, play: Play, redis: RedisServer) -> Iterator[Pool]:
    """Two workers on one Redis, or one worker with its own memory."""
    if request.param == "memory":
        with running_pool(1, play.make()) as running:
            yield running
    else:
        database = list(PLAYS.values()).index(play)
        with running_pool(2, play.make(), redis_url=f"{redis.url}/{database}") as running:
            yield running
