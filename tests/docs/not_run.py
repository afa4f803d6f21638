"""Blocks that are not run from their page, each with the reason. A block is named by its page and its first line,
without the comment behind it."""

from __future__ import annotations

MAKE = "what `make` does is run by whoever runs these tests, and by .ci/run"
ON_CONTAINERS = "run as it stands by tests/containers/test_documented.py, on a Docker engine"
POOL = "a pool of Docker's: its commands are run by tests/containers"
CLUSTER = "a Kubernetes cluster of the reader's own: tests/deploy checks the manifests"
HUB = "uploads to an account of the reader's own: tests/openenv runs `openenv push` against a hub of its own"
TRAINS = "needs TRL, a model and a GPU; the page says that it was not run"
INSTALLS = "installs into the reader's own environment: tests/packaging installs the wheel in one of theirs"
REDIS = "needs a Redis at its usual port: tests/survival runs workers on one of their own"
RELEASES = "run by whoever releases: tests/release runs the program on trees of its own"

NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "make demo"): MAKE,
    ("README.md", "from metagame import MetaGameAction, MetaGameEnv"): ON_CONTAINERS,
    ("README.md", "make up"): POOL,
    ("README.md", "make chaos"): MAKE,
    ("README.md", "make space"): HUB,
    ("README.md", "make check"): MAKE,
    ("deploy/README.md", "make up"): POOL,
    ("deploy/README.md", "metagame pool watch http://localhost:8000"): (
        "watches until it is stopped, and asks a pool of the reader's own: tests/cli runs these commands"
    ),
    ("deploy/README.md", "COMPOSE_PROFILES=observe make up"): POOL,
    ("deploy/README.md", "docker compose up -d --no-recreate --scale worker=5"): POOL,
    ("deploy/README.md", "make roll"): POOL,
    (
        "deploy/README.md",
        "docker compose exec -T redis redis-cli CONFIG SET auto-aof-rewrite-percentage 0",
    ): ON_CONTAINERS,
    ("deploy/README.md", "docker compose stop redis"): ON_CONTAINERS,
    ("deploy/README.md", "# kind, or another cluster of your own, with a small Redis in it"): CLUSTER,
    ("docs/guides/deploy.md", 'pip install ".[server]"'): INSTALLS,
    ("docs/guides/deploy.md", "METAGAME_REDIS_URL=redis://localhost:6379/0 metagame serve --workers 4"): REDIS,
    ("docs/guides/deploy.md", "make image"): POOL,
    ("docs/guides/deploy.md", "make up"): POOL,
    ("docs/guides/deploy.md", "make space"): HUB,
    ("docs/guides/train.md", "from datasets import Dataset"): TRAINS,
    ("docs/guides/upgrade.md", "IMAGE=registry.example.com/meta_game-env:0.2.0 make roll"): POOL,
    ("docs/release.md", "make release-check"): RELEASES,
    ("docs/release.md", 'make release-check ARGS="version tree"'): RELEASES,
}
