"""The manifests of each overlay: valid, locked down, and true to each other and to the server."""

from __future__ import annotations

import copy
import re

import httpx
import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from metagame import __version__
from services.settings import Settings
from tests.deploy.rendered import KUBERNETES, Manifest, Overlay, port_number
from tests.servers import ROOT, Server

OLDEST_MINOR = 27
NEWEST_MINOR = int(kubernetes_validate.latest_version().split(".")[1])
VERSIONS = [f"1.{minor}" for minor in range(OLDEST_MINOR, NEWEST_MINOR + 1)]
EXTERNAL: dict[str, dict[str, set[str]]] = {
    "dev": {},
    "production": {"metagame-redis": {"METAGAME_REDIS_URL"}, "metagame-tls": set()},
}
"""Secrets that are made by hand, and the keys that are read of them."""
ELSEWHERE = ({"app.kubernetes.io/name": "prometheus"}, {"k8s-app": "kube-dns"})
"""Pods that others run."""
SLACK_S = 5


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_this_kubernetes_takes(overlay: Overlay, version: str) -> None:
    for manifest in overlay.manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_finds_a_misspelt_field_and_a_wrong_type(dev: Overlay) -> None:
    for wrong in ({"replica": 3}, {"replicas": "three"}):
        manifest = copy.deepcopy(dev.named("Deployment", "worker"))
        manifest["spec"] |= wrong
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_everything_is_in_the_namespace_of_its_overlay(overlay: Overlay) -> None:
    [namespace] = overlay.of("Namespace")
    others = [one["metadata"].get("namespace") for one in overlay.manifests if one is not namespace]
    assert set(others) == {namespace["metadata"]["name"]}


def test_every_pod_meets_the_restricted_standard_and_its_namespace_demands_it(overlay: Overlay) -> None:
    [namespace] = overlay.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for _, _, pod in overlay.pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
            assert container["securityContext"] == {**locked, "capabilities": {"drop": ["ALL"]}}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_a_worker_runs_as_the_images_user_and_may_write_to_tmp_only(overlay: Overlay) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    pod = overlay.pod("worker")
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert [mount["mountPath"] for mount in overlay.container("worker")["volumeMounts"]] == ["/tmp"]
    assert [set(volume) - {"name"} for volume in pod["volumes"]] == [{"emptyDir"}]


def test_no_image_changes_by_itself(overlay: Overlay) -> None:
    tags = {name: overlay.container(name)["image"].rpartition(":")[2] for name, _, _ in overlay.pods()}
    assert all(re.fullmatch(r"[\w.-]+", tag) for tag in tags.values()), tags
    if overlay.name == "production":
        assert tags["worker"] == __version__
        assert "latest" not in tags.values()
    # With `latest` the default is to ask a registry each time, which knows nothing of an image loaded into kind.
    assert {overlay.container(name)["imagePullPolicy"] for name in tags} == {"IfNotPresent"}


def test_what_is_probed_answers(overlay: Overlay, echo_server: Server) -> None:
    container = overlay.container("worker")
    assert port_number(overlay.pod("worker"), "http") == Settings.model_fields["port"].default
    paths = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == "http"
        paths[probe] = asked["path"]
        assert httpx.get(echo_server.url + asked["path"], trust_env=False).status_code == 200
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}


def test_the_balancer_is_probed_and_reached_where_it_listens(overlay: Overlay) -> None:
    configuration = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    pod, container, environment = (
        overlay.pod("balancer"),
        overlay.container("balancer"),
        overlay.environment("balancer"),
    )
    binds = {"http": "BALANCER_BIND", "operations": "BALANCER_STATS_BIND"}
    assert {name: f":{port_number(pod, name)}" for name in binds} == {
        name: environment[variable] for name, variable in binds.items()
    }
    asked = container["readinessProbe"]["httpGet"]
    assert f"monitor-uri {asked['path']}\n" in configuration
    assert {asked["port"], container["livenessProbe"]["tcpSocket"]["port"]} == {"operations"}


def test_a_pod_has_the_time_to_drain(overlay: Overlay) -> None:
    waits_s = {name: _pre_stop_s(overlay.container(name)) for name in ("worker", "balancer")}
    drains_s = float(overlay.environment("worker")["METAGAME_DRAIN_TIMEOUT_S"] or 0)
    assert overlay.pod("worker")["terminationGracePeriodSeconds"] >= waits_s["worker"] + drains_s + SLACK_S
    assert overlay.pod("balancer")["terminationGracePeriodSeconds"] > waits_s["balancer"] + SLACK_S


def test_a_rolling_update_never_has_a_pod_less(overlay: Overlay) -> None:
    for deployment in overlay.of("Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    guarded = {name for budget in overlay.of("PodDisruptionBudget") for name in overlay.selected(_selector(budget))}
    assert guarded == {one["metadata"]["name"] for one in overlay.of("Deployment")}


def test_every_selector_finds_its_pods(overlay: Overlay) -> None:
    for workload in overlay.workloads():
        name = workload["metadata"]["name"]
        assert overlay.selected(workload["spec"]["selector"]["matchLabels"]) == {name}
        for spread in overlay.pod(name).get("topologySpreadConstraints", []):
            assert overlay.selected(spread["labelSelector"]["matchLabels"]) == {name}
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for manifest in overlay.of(kind):
            assert len(overlay.selected(_selector(manifest))) == 1, manifest["metadata"]["name"]
    for policy in overlay.of("NetworkPolicy"):
        for peer in _peers(policy):
            labels = peer.get("podSelector", {}).get("matchLabels")
            assert labels is None or labels in ELSEWHERE or len(overlay.selected(labels)) == 1


def test_every_service_leads_to_a_port_of_its_pods(overlay: Overlay) -> None:
    for service in overlay.of("Service"):
        [name] = overlay.selected(service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            number = port_number(overlay.pod(name), port["targetPort"])
            assert port["port"] == number, "a headless Service translates no ports, and some network policies take none"


def test_every_reference_is_to_something_that_is_there(overlay: Overlay) -> None:
    external = EXTERNAL[overlay.name]
    told = (KUBERNETES / "overlays" / overlay.name / "kustomization.yaml").read_text()
    assert all(name in told for name in external), "what is made by hand is told in the overlay's first lines"
    made = {one["metadata"]["name"]: set(one["data"]) for one in overlay.of("Secret")} | external
    for name, _, pod in overlay.pods():
        for variable in overlay.container(name).get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference.get("optional") or reference["key"] in made[reference["name"]]
                assert reference["name"] in made or reference["name"] in told or overlay.name == "dev"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in _claims(overlay, name)}
        assert {mount["name"] for mount in overlay.container(name)["volumeMounts"]} == volumes
        for config_map in _config_maps(pod):
            assert overlay.named("ConfigMap", config_map)["metadata"]["name"] == config_map
    for ingress in overlay.of("Ingress"):
        assert {one["secretName"] for one in ingress["spec"]["tls"]} <= made.keys()


def test_a_redis_url_stands_in_a_secret_only(overlay: Overlay) -> None:
    for manifest in overlay.manifests:
        if manifest["kind"] != "Secret":
            assert not re.search(r"redi(s|ss)(\+\w+)?://", str(manifest)), manifest["metadata"]["name"]
    assert overlay.of("Secret") == [] or overlay.name == "dev"


def test_the_autoscaler_follows_cpu_and_attached_sessions_and_takes_back_slowly(production: Overlay) -> None:
    scaler = production.named("HorizontalPodAutoscaler", "worker")["spec"]
    deployment = production.named(scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    assert "replicas" not in deployment["spec"], "an apply would set the autoscaler's number back"
    followed = {one["type"]: one[one["type"].lower()] for one in scaler["metrics"]}
    assert followed["Resource"]["name"] == "cpu"
    assert followed["Pods"]["metric"]["name"] == "metagame_attached_sessions"
    up, down = scaler["behavior"]["scaleUp"], scaler["behavior"]["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0
    assert down["stabilizationWindowSeconds"] >= 600
    grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert [(one["value"], one["periodSeconds"] > grace_s) for one in down["policies"]] == [(1, True)]


def test_workers_and_balancers_can_hold_as_many_sockets_as_the_pool_admits(production: Overlay) -> None:
    admitted = int(production.environment("worker")["METAGAME_MAX_SESSIONS"] or 0)
    scaler = production.named("HorizontalPodAutoscaler", "worker")["spec"]
    [each] = [int(one["pods"]["target"]["averageValue"]) for one in scaler["metrics"] if one["type"] == "Pods"]
    assert scaler["maxReplicas"] * each >= admitted
    descriptors = int(production.environment("balancer")["BALANCER_NOFILE"] or 0)
    assert descriptors / 2 > admitted, "one balancer carries all while the other is replaced"


def test_every_pod_is_fenced_in(overlay: Overlay) -> None:
    policies = overlay.of("NetworkPolicy")
    for name, labels, pod in overlay.pods():
        own = [one for one in policies if _selector(one).items() <= labels.items()]
        assert {kind for one in own for kind in one["spec"]["policyTypes"]} == {"Ingress", "Egress"}, name
        for policy in own:
            ruled = {part.capitalize() for part in ("ingress", "egress") if part in policy["spec"]}
            assert ruled <= set(policy["spec"]["policyTypes"]), "a rule of a type not named has no effect"
            for rule in policy["spec"].get("ingress", []):
                assert rule["from"], "an empty list lets everybody in"
                assert all(port_number(pod, port["port"]) for port in rule["ports"])
            for rule in policy["spec"].get("egress", []):
                assert rule["to"], "an empty list lets everything out"
                assert rule["ports"]


def test_workers_reach_dns_and_redis_and_nothing_else(overlay: Overlay) -> None:
    rules = [
        rule
        for policy in overlay.of("NetworkPolicy")
        if overlay.selected(_selector(policy)) == {"worker"}
        for rule in policy["spec"].get("egress", [])
    ]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {
        "dev": {53, 6379},
        "production": {53, 6379, 26379},
    }[overlay.name]


def test_the_way_in_is_through_the_ingress_controller_the_balancer_and_the_workers(production: Overlay) -> None:
    [ingress] = production.of("Ingress")
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    service = production.named("Service", path["backend"]["service"]["name"])
    assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert production.selected(service["spec"]["selector"]) == {"balancer"}
    assert [one["hosts"] for one in ingress["spec"]["tls"]] == [[rule["host"]]]
    entered = _peers_of_ingress(production, "balancer", 8000)
    assert ["namespaceSelector"] in [list(peer) for peer in entered]
    balancers = {"podSelector": {"matchLabels": service["spec"]["selector"]}}
    assert balancers in _peers_of_ingress(production, "worker", 8000)


def test_the_ingress_keeps_quiet_sockets_takes_every_body_and_sends_nothing_twice(production: Overlay) -> None:
    annotations = production.of("Ingress")[0]["metadata"]["annotations"]
    for controller in ("nginx.ingress.kubernetes.io", "nginx.org"):
        for way in ("read", "send"):
            assert int(annotations[f"{controller}/proxy-{way}-timeout"].rstrip("s")) >= 3600
    bodies = (annotations["nginx.ingress.kubernetes.io/proxy-body-size"], annotations["nginx.org/client-max-body-size"])
    assert all(int(size.removesuffix("m")) * 2**20 > Settings().max_frame_bytes for size in bodies)
    assert set(annotations["nginx.ingress.kubernetes.io/proxy-next-upstream"].split()) <= {"error", "timeout"}


def _selector(manifest: Manifest) -> dict[str, str]:
    spec = manifest["spec"]
    selector = spec["podSelector"] if manifest["kind"] == "NetworkPolicy" else spec["selector"]
    labels: dict[str, str] = selector if manifest["kind"] == "Service" else selector["matchLabels"]
    return labels


def _peers(policy: Manifest) -> list[Manifest]:
    rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
    return [peer for rule in rules for peer in [*rule.get("from", []), *rule.get("to", [])]]


def _peers_of_ingress(overlay: Overlay, name: str, port: int) -> list[Manifest]:
    return [
        peer
        for policy in overlay.of("NetworkPolicy")
        if overlay.selected(_selector(policy)) == {name}
        for rule in policy["spec"].get("ingress", [])
        if port in {one["port"] for one in rule["ports"]}
        for peer in rule["from"]
    ]


def _pre_stop_s(container: Manifest) -> float:
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    return float(command[1])


def _config_maps(pod: Manifest) -> list[str]:
    sources = [source for volume in pod.get("volumes", []) for source in volume.get("projected", {}).get("sources", [])]
    mounted = [one["configMap"]["name"] for one in [*pod.get("volumes", []), *sources] if "configMap" in one]
    return mounted + [
        source["configMapRef"]["name"] for container in pod["containers"] for source in container.get("envFrom", [])
    ]


def _claims(overlay: Overlay, name: str) -> list[Manifest]:
    return [
        claim
        for workload in overlay.of("StatefulSet")
        if workload["metadata"]["name"] == name
        for claim in workload["spec"].get("volumeClaimTemplates", [])
    ]
