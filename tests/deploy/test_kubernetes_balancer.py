"""The balancer as Kubernetes starts it: it finds workers by the cluster's DNS, and outlives that."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.balancer.haproxy import Balancer
from tests.deploy.dns import Dns, dns
from tests.deploy.rendered import Overlay
from tests.redis_servers import RedisServer, free_port
from tests.survival.load import Load
from tests.survival.workers import Worker, start_all, until

pytestmark = pytest.mark.anyio
HOSTS = ("127.0.0.2", "127.0.0.3")
QUESTIONS = 6
"""Of so many one is put after what a test changed, and its answer has arrived."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What stands for one: its DNS, two pods at one port of two addresses, the balancer."""

    dns: Dns
    one: Worker
    other: Worker
    balancer: Balancer

    async def rotates(self, count: int) -> None:
        """Wait until the balancer has this many workers in rotation."""
        await until(lambda: len(self.balancer.up()) == count, f"{count} workers in rotation")

    async def asked_again(self) -> None:
        """Wait until the balancer knows what DNS says now."""
        goal = self.dns.asked + QUESTIONS
        await until(lambda: self.dns.asked >= goal, "questions to DNS")

    def serves(self) -> int:
        """The status of a request through the balancer."""
        return httpx.get(f"{self.balancer.url}/health", trust_env=False).status_code


def where_workers_are(overlay: Overlay) -> str:
    """The name and port that the balancer asks for, woven as Kubernetes does."""
    [namespace] = overlay.of("Namespace")
    woven = overlay.environment("balancer")["BALANCER_WORKERS"]
    assert woven is not None
    return woven.replace("$(POD_NAMESPACE)", namespace["metadata"]["name"])


def backend(overlay: Overlay) -> str:
    """The file that says how it asks."""
    text: str = overlay.named("ConfigMap", "balancer-workers")["data"]["workers.cfg"]
    return text


@pytest.fixture
def cluster(shared_redis: RedisServer, production: Overlay, tmp_path: Path) -> Iterator[Cluster]:
    name, port = where_workers_are(production).partition(":")[0], str(free_port())
    balancer = Balancer(tmp_path, [], BALANCER_WORKERS=f"{name}:{port}")
    pods = [Worker(METAGAME_HOST=host, METAGAME_PORT=port, METAGAME_REDIS_URL=shared_redis.url) for host in HOSTS]
    one, other = pods
    with dns(name) as server:
        asking = backend(production).replace("parse-resolv-conf", f"nameserver test 127.0.0.1:{server.port}")
        (tmp_path / "workers.cfg").write_text(asking)
        try:
            start_all(pods)
            server.addresses = [HOSTS[0]]
            balancer.start()
            yield Cluster(server, one, other, balancer)
        finally:
            balancer.stop()
            for pod in pods:
                pod.end()


async def test_pods_come_and_go_under_load_and_clients_do_not_notice(cluster: Cluster) -> None:
    await cluster.rotates(1)
    async with Load(cluster.balancer.url) as load:
        cluster.dns.addresses = list(HOSTS)  # a pod that is ready
        await cluster.rotates(2)
        await load.goes_on()
        cluster.dns.addresses = [HOSTS[1]]  # a pod that will go: out of the Service at first, as preStop has it
        await cluster.rotates(1)
        cluster.one.send(signal.SIGTERM)
        await load.goes_on()
        assert await cluster.one.exit_code() == 0
        await load.finish()


@pytest.mark.parametrize("away", ["no such name", "no answer"])
async def test_workers_that_dns_lists_no_more_all_at_once_stay(cluster: Cluster, away: str) -> None:
    cluster.dns.addresses = list(HOSTS)
    await cluster.rotates(2)
    if away == "no answer":
        cluster.dns.silent = True
    else:
        cluster.dns.addresses = None  # Redis is away, and no pod ready
    await cluster.asked_again()
    assert len(cluster.balancer.up()) == 2
    assert await asyncio.to_thread(cluster.serves) == 200


def test_the_balancer_asks_for_the_headless_service_of_the_workers(overlay: Overlay) -> None:
    name, _, port = where_workers_are(overlay).partition(":")
    [service] = [one for one in overlay.of("Service") if overlay.selected(one["spec"]["selector"]) == {"worker"}]
    metadata = service["metadata"]
    assert name == f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
    assert service["spec"]["clusterIP"] == "None"
    assert [one["port"] for one in service["spec"]["ports"]] == [int(port)]


def test_it_has_room_for_every_worker_that_the_autoscaler_may_start(production: Overlay) -> None:
    room = re.search(r"server-template worker 1-(\d+) ", backend(production))
    assert room is not None
    largest = production.named("HorizontalPodAutoscaler", "worker")["spec"]["maxReplicas"]
    assert largest + production.named("Deployment", "worker")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] <= int(
        room[1]
    )


def test_it_reads_the_files_that_are_mounted(overlay: Overlay) -> None:
    command, [mount] = overlay.container("balancer")["command"], overlay.container("balancer")["volumeMounts"]
    read = {Path(after) for option, after in pairwise(command) if option == "-f"}
    assert {path.parent for path in read} == {Path(mount["mountPath"])}
    [volume] = overlay.pod("balancer")["volumes"]
    sources = [source["configMap"]["name"] for source in volume["projected"]["sources"]]
    files = {file for name in sources for file in overlay.named("ConfigMap", name)["data"]}
    assert {path.name for path in read} == files
