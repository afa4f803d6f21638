"""What watches the pool asks for what the workers say: Prometheus' configuration and rules, Grafana's dashboard.

Grafana itself is not run: only its files are held against Prometheus, which is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from services.meter.exposition import Facts, render
from services.meter.layout import CELLS
from services.meter.shared import Totals
from tests.metrics.scraped import read
from tests.redis_servers import RedisServer, free_port
from tests.servers import ROOT, run_server

FOLDER = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "metagame.json").read_text())
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
OF_PROMETHEUS = {"up"}
LIMIT_S = 60.0
NO_PROMETHEUS = "prometheus is not installed (Debian: apt-get install prometheus)"


def needs(command: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"{command}: {NO_PROMETHEUS}")


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_in(query: str) -> set[str]:
    """The series that a query asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|without)\s*\([^)]*\)", "", query)
    return set(re.findall(r"\b(?:metagame[\w:]*|up)\b", bare))


def exposed() -> dict[str, set[str]]:
    """Every series that a worker on Redis says, and its labels."""
    facts = Facts({"version": "1", "python": "3", "game": "g"}, 1, 1, redis=True)
    text, _ = render(Totals([0] * CELLS, 1), facts, "")
    found: dict[str, set[str]] = {}
    for sample in read(text.decode()).samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("query", QUERIES + [rule["expr"] for rule in RULES + ALERTS])
def test_every_query_asks_for_what_the_workers_say(query: str) -> None:
    known = exposed()
    recorded = {rule["record"] for rule in RULES}
    assert names_in(query)
    assert names_in(query) <= known.keys() | recorded | OF_PROMETHEUS
    for name, matchers in re.findall(r"(metagame\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)\s*=", matchers)) <= known[name]


@pytest.mark.parametrize("query", QUERIES + [rule["expr"] for rule in RULES + ALERTS])
def test_every_value_of_a_label_that_a_query_asks_for_is_one_that_there_is(query: str) -> None:
    facts = Facts({"version": "1", "python": "3", "game": "g"}, 1, 1, redis=True)
    samples = read(render(Totals([0] * CELLS, 1), facts, "")[0].decode()).samples
    for name, matchers in re.findall(r"(metagame\w+)\{([^}]*)\}", query):
        for label, kind, value in re.findall(r'(\w+)(=~?)"([^"]*)"', matchers):
            told = {one.labels[label] for one in samples if one.name == name}
            assert set(value.split("|") if kind == "=~" else [value]) <= told


def test_each_panel_has_a_title_a_place_and_the_provisioned_source() -> None:
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    [uid] = [one["uid"] for one in source["datasources"]]
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": uid}
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        taken |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_recorded_series_has_a_reader() -> None:
    asked = set[str]().union(*map(names_in, QUERIES + [rule["expr"] for rule in ALERTS]))
    assert {rule["record"] for rule in RULES} <= asked


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_leads_to_a_heading_of_the_runbook(alert: Any) -> None:
    path, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert alert["labels"]["severity"] in {"critical", "warning"}


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    tests = yaml.safe_load((ROOT / "tests/deploy/alerts.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    named = {alert["alert"] for alert in ALERTS}
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == named
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == named


def test_what_compose_mounts_is_where_the_files_say() -> None:
    prometheus, grafana = COMPOSE["services"]["prometheus"], COMPOSE["services"]["grafana"]
    mounted = {one.split(":")[1]: one.split(":")[0] for one in prometheus["volumes"] + grafana["volumes"]}
    [read] = [one.partition("=")[2] for one in prometheus["command"] if one.startswith("--config.file=")]
    folder = ROOT / mounted[str(Path(read).parent)]
    configured = yaml.safe_load((folder / Path(read).name).read_text())
    for file in configured["rule_files"]:
        assert (folder / file).exists()
    [provider] = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/metagame.yml").read_text())["providers"]
    assert (ROOT / mounted[provider["options"]["path"]] / "metagame.json").exists()
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].startswith(provider["options"]["path"])
    names = configured["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    assert set(names) <= COMPOSE["services"].keys()
    assert set(COMPOSE["services"]["worker"]["networks"]) & set(prometheus["networks"])


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_who_watches_is_started_only_when_asked_for_and_heard_on_loopback_only(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["profiles"] == ["observe"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@needs("promtool")
def test_prometheus_own_tool_takes_configuration_and_rules() -> None:
    assert "SUCCESS: 2 rule files found" in promtool("check", "config", str(FOLDER / "prometheus.yml"))
    for name, number in (("rules.yml", len(RULES)), ("alerts.yml", len(ALERTS))):
        assert f"SUCCESS: {number} rules found" in promtool("check", "rules", str(FOLDER / name))


@needs("promtool")
def test_rules_and_alerts_say_what_they_are_meant_to() -> None:
    assert "SUCCESS" in promtool("test", "rules", "tests/deploy/alerts.yml")


@needs("promtool")
def test_prometheus_own_linter_finds_nothing_in_what_a_worker_says() -> None:
    facts = Facts({"version": "1", "python": "3", "game": "g"}, 1, 1, redis=True)
    text, _ = render(Totals([0] * CELLS, 1), facts, "")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str
    http: httpx.Client

    def ask(self, query: str) -> list[Any]:
        answer = self.http.get(f"{self.url}/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        result: list[Any] = answer["data"]["result"]
        return result

    def until(self, query: str) -> list[Any]:
        """The first answer that is not empty."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := self.ask(query)):
            assert time.monotonic() < deadline, f"nothing answers {query}"
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def watching(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The configuration of compose, but for where the worker is and how often it is asked, on a worker that works."""
    folder = tmp_path_factory.mktemp("prometheus")
    with run_server(METAGAME_REDIS_URL=shared_redis.url) as server, httpx.Client(trust_env=False, timeout=20) as http:
        configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text().replace("10s", "1s"))
        configuration["rule_files"] = [str(FOLDER / file) for file in configuration["rule_files"]]
        workers, balancer = configuration["scrape_configs"]
        del workers["dns_sd_configs"]
        workers["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
        balancer["static_configs"] = [{"targets": []}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        port = free_port()
        options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
            )
        try:
            wait_until_ready(http, f"http://127.0.0.1:{port}/-/ready", process, folder / "log")
            one = Prometheus(f"http://127.0.0.1:{port}", http)
            session = 0
            deadline = time.monotonic() + LIMIT_S
            while not one.ask("metagame:steps:rate1m > 0"):  # rates need two scrapes with steps between
                assert time.monotonic() < deadline
                session += 1
                load(http, server.url, f"watched-{session}")
            yield one
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def load(http: httpx.Client, url: str, session_id: str) -> None:
    """A little of what counts, errors too."""
    at = f"{url}/sessions/{session_id}"
    http.post(f"{at}/reset", json={})
    for _ in range(5):
        http.post(f"{at}/step", json={"action": {"message": "one"}})
    http.post(f"{at}/step", json={"action": {}})


def wait_until_ready(http: httpx.Client, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if http.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


@needs("prometheus")
@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_is_answered(watching: Prometheus, query: str) -> None:
    assert watching.until(query)


@needs("prometheus")
def test_every_rule_is_evaluated_and_no_alert_fires(watching: Prometheus) -> None:
    groups = watching.http.get(f"{watching.url}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES) + len(ALERTS)
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
    for rule in RULES:
        assert watching.until(rule["record"])
