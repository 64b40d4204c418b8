"""Metrics, traces and logs, in the rendered charts: who may read and send what, who hears of an alert, and what
is left when a part is one that is there already.
"""

from typing import Any

import pytest
import yaml

from services.registry import SERVICES
from tests.charts.conftest import KUBERNETES, ROOT, Manifest, helm, of_kind, pods, rendered

OBSERVABILITY = ROOT / "observability"
PARTS = ("prometheus", "alertmanager", "loki", "jaeger", "collector", "grafana")
COLLECTOR = "telemetry.otlpEndpoint=http://observability-collector.observability:4318"
RECEIVERS = "alertmanager.receivers"


def list_files(pattern: str) -> list[str]:
    return sorted(path.name for path in OBSERVABILITY.glob(pattern))


def read_config(part: str, *more: str) -> dict[str, Any]:
    (text,) = of_kind(rendered("observability", *more), "ConfigMap")[f"observability-{part}"]["data"].values()
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def list_allowed(release: str, name: str, direction: str, *more: str) -> dict[Any, set[str]]:
    """The peers of each port of a pod's policy: `namespaces/what it is a part of or its name`."""
    policy = of_kind(rendered(release, *more), "NetworkPolicy")[name]["spec"]
    allowed: dict[Any, set[str]] = {}
    for rule in policy.get(direction, []):
        for port in rule.get("ports", [{"port": "any"}]):
            for peer in rule.get("from", rule.get("to", [{}])):
                allowed.setdefault(port["port"], set()).add(_describe(peer))
    return allowed


def _describe(peer: Manifest) -> str:
    def values(selector: Manifest) -> str:
        texts = [*selector.get("matchLabels", {}).items()]
        texts += [(one["key"], "|".join(one["values"])) for one in selector.get("matchExpressions", [])]
        by_label = dict(texts)
        return by_label.get("app.kubernetes.io/name") or str(texts[-1][1]) if texts else ""

    return f"{values(peer.get('namespaceSelector', {}))}/{values(peer.get('podSelector', {}))}"


def test_the_chart_has_the_files_that_compose_has_and_none_of_its_own() -> None:
    maps = of_kind(rendered("observability"), "ConfigMap")
    rules = list_files("prometheus/rules/*.yaml")
    assert sorted(maps["observability-rules"]["data"]) == rules
    boards = list_files("dashboards/*.json")
    assert sorted(name for found in maps.values() for name in found["data"] if name.endswith(".json")) == boards
    for part in ("loki", "jaeger", "collector"):
        assert read_config(part) == yaml.safe_load((OBSERVABILITY / part / "config.yaml").read_text())
    grafana = maps["observability-grafana"]["data"]
    assert grafana["sources.yaml"] == (OBSERVABILITY / "grafana/datasources/sources.yaml").read_text()


def test_prometheus_may_see_the_pods_of_the_shops_namespaces_and_nothing_else_of_the_cluster() -> None:
    more = ("--set", "namespaces={shop,store},kubelet.enabled=false")
    manifests = rendered("observability", *more)
    roles = [manifest for manifest in manifests if manifest["kind"] == "Role"]
    assert {role["metadata"]["namespace"] for role in roles} == {"shop", "store"}
    for role in roles:
        assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert not of_kind(manifests, "ClusterRole")
    ((name, role),) = of_kind(rendered("observability"), "ClusterRole").items()
    assert name == "shop-observability-prometheus"
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["nodes"], ["get", "list", "watch"]),
        (["nodes/metrics"], ["get"]),
    ]


@pytest.mark.parametrize("release", ["observability", "observability-production", "observability-existing"])
def test_who_asks_the_api_server_has_a_token_and_nobody_else(release: str) -> None:
    with_token = {name for name, spec in pods(rendered(release)).items() if spec["automountServiceAccountToken"]}
    bound = {
        subject["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for binding in of_kind(rendered(release), kind).values()
        for subject in binding["subjects"]
    }
    assert {name.split()[1] for name in with_token} == bound
    if release == "observability-existing":
        assert not bound, "the collector asks nobody"


def test_each_target_is_one_port_of_a_pod_and_has_no_label_that_the_metrics_have() -> None:
    config = read_config("prometheus")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) >= {"shop", "rabbitmq", "rabbitmq-queues", "spans", *PARTS}
    assert jobs["rabbitmq-queues"]["metrics_path"] == "/metrics/detailed"
    for job in jobs.values():
        changes = job.get("relabel_configs", [])
        assert not any(change.get("target_label") == "service" for change in changes)
        for discovery in job.get("kubernetes_sd_configs", []):
            assert discovery["role"] == "node" or discovery["namespaces"] == {"names": ["shop"]}
            if discovery["role"] == "pod":
                kept = [change for change in changes if change.get("action") == "keep"]
                assert any("port_name" in label for change in kept for label in change["source_labels"])
    ports = {
        name: [port["name"] for container in spec["containers"] for port in container["ports"]]
        for release in ("kind", "operator", "backends")
        for name, spec in pods(rendered(release)).items()
        if "Job" not in name and "Pod" not in name
    }
    assert {name for name, named in ports.items() if "probes" in named} == {
        "Deployment operator",
        *(f"Deployment shop-{name}" for name in SERVICES),
    }
    assert [name for name, named in ports.items() if "metrics" in named] == ["StatefulSet backends-rabbitmq"]


def test_who_reads_metrics_and_who_sends_traces_and_logs() -> None:
    sends = list_allowed("observability", "observability-collector", "ingress")
    assert sends[4318] == {"shop/caravan|caravan-operator"}
    assert sends[8888] == sends[8889] == {"/prometheus"}
    reads = list_allowed("observability", "observability-prometheus", "egress")
    assert reads[8081] == reads[8080] == reads[15692] == {"shop/caravan|caravan-operator|backends"}
    for store, port in (("loki", 3100), ("jaeger", 16686), ("prometheus", 9090), ("alertmanager", 9093)):
        allowed = list_allowed("observability", f"observability-{store}", "ingress")[port]
        assert allowed <= {"/grafana", "/prometheus", "/collector"}, store
    for store in ("loki", "jaeger"):
        assert "egress" not in of_kind(rendered("observability"), "NetworkPolicy")[f"observability-{store}"]["spec"]
    asked = list_allowed("observability", "observability-grafana", "egress")
    assert set().union(*asked.values()) == {"kube-system/kube-dns"} | {
        f"/{name}" for name in ("prometheus", "alertmanager", "loki", "jaeger")
    }
    backends = list_allowed("backends", "backends", "ingress")
    assert backends["metrics"] == {"observability/"}


@pytest.mark.parametrize("release", ["kind", "lite", "operator"])
def test_a_shop_sends_traces_where_it_is_told_and_may_go_there(release: str) -> None:
    names = {"kind": "shop-orders", "lite": "shop-gateway", "operator": "operator"}
    reported = list_allowed(release, names[release], "egress", "--set", COLLECTOR)
    assert reported[4318] == {"observability/observability"}
    assert 4318 not in list_allowed(release, names[release], "egress")
    outside = "networkPolicy.collector[0].ports[0].port=4318,networkPolicy.collector[0].to[0].ipBlock.cidr=10.1.2.3/32"
    policy = of_kind(rendered(release, "--set", COLLECTOR, "--set", outside), "NetworkPolicy")[names[release]]
    assert {"ports": [{"port": 4318}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]} in policy["spec"]["egress"]
    (spec,) = [spec for name, spec in pods(rendered(release, "--set", COLLECTOR)).items() if names[release] in name][:1]
    environment = {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}
    assert "k8s.pod.name=$(POD_NAME)" in (environment["OTEL_RESOURCE_ATTRIBUTES"] or "")
    assert list(environment).index("POD_NAME") < list(environment).index("OTEL_RESOURCE_ATTRIBUTES")
    if release == "operator":
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == COLLECTOR.partition("=")[2]
    else:
        settings = of_kind(rendered(release, "--set", COLLECTOR), "ConfigMap")["shop-settings"]["data"]
        assert settings["CARAVAN_OTLP_ENDPOINT"] == COLLECTOR.partition("=")[2]
        assert "CARAVAN_OTLP_ENDPOINT" not in of_kind(rendered(release), "ConfigMap")["shop-settings"]["data"]


def test_who_is_told_of_an_alert_is_in_a_secret_or_nobody_is() -> None:
    def receivers(*more: str) -> dict[str, Any]:
        return {receiver["name"]: receiver for receiver in read_config("alertmanager", *more)["receivers"]}

    shared = yaml.safe_load((OBSERVABILITY / "alertmanager/config.yaml").read_text())
    assert all(set(receiver) == {"name"} for receiver in receivers().values())
    given = ("--set", f"{RECEIVERS}.secret=hooks")
    assert list(receivers(*given).values()) == shared["receivers"]
    spec = pods(rendered("observability", *given))["StatefulSet observability-alertmanager"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "receivers"]
    assert volume["secret"]["secretName"] == "hooks"
    key = "/etc/alertmanager/receivers/pagerduty"
    paged = receivers(*given, "--set", f"{RECEIVERS}.instead.page.pagerduty_configs[0].routing_key_file={key}")
    assert paged["page"] == {"name": "page", "pagerduty_configs": [{"routing_key_file": key}]}
    assert paged["heartbeat"] == next(one for one in shared["receivers"] if one["name"] == "heartbeat")


def test_grafanas_password_is_made_once_and_kept_and_only_grafana_reads_it() -> None:
    manifests = rendered("observability")
    (secret,) = of_kind(manifests, "Secret").values()
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert len(secret["stringData"]["admin-password"]) >= 32
    reading = {name for name, spec in pods(manifests).items() if "secretName" in str(spec)}
    assert reading == {"StatefulSet observability-grafana"}
    assert not of_kind(rendered("observability-production"), "Secret")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_switched_off_leaves_nothing_behind(part: str) -> None:
    elsewhere = "collector.tracesEndpoint=http://tempo:4318,collector.logsEndpoint=http://loki:3100/otlp"
    manifests = rendered("observability", "--set", f"{part}.enabled=false,{elsewhere}")
    named = [m for m in manifests if m["metadata"]["labels"].get("app.kubernetes.io/name") == part]
    assert not named
    jobs = {"collector": {"collector", "spans"}}.get(part, {part})
    if part != "prometheus":
        config = yaml.safe_load(of_kind(manifests, "ConfigMap")["observability-prometheus"]["data"]["prometheus.yaml"])
        assert not jobs & {job["job_name"] for job in config["scrape_configs"]}
        targets = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
        assert bool(targets) == (part != "alertmanager")


def test_what_is_there_already_finds_targets_rules_and_dashboards() -> None:
    manifests = rendered("observability-existing")
    assert pods(manifests).keys() == {"Deployment observability-collector"}
    monitors = of_kind(manifests, "PodMonitor")
    assert monitors.keys() == {f"observability-{name}" for name in ("shop", "rabbitmq", "collector", "spans")}
    assert monitors["observability-shop"]["spec"]["namespaceSelector"] == {"matchNames": ["shop"]}
    rules = of_kind(manifests, "PrometheusRule")
    assert len(rules) == len(list_files("prometheus/rules/*.yaml"))
    for found in (*monitors.values(), *rules.values()):
        assert found["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    boards = [
        one for one in of_kind(manifests, "ConfigMap").values() if "grafana_dashboard" in one["metadata"]["labels"]
    ]
    assert len(boards) == len(list_files("dashboards/*.json"))
    assert list_allowed("observability-existing", "observability-collector", "ingress")[8888] >= {"monitoring/"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("jaeger.enabled=false", "collector.tracesEndpoint"),
        ("loki.enabled=false", "collector.tracesEndpoint or collector.logsEndpoint"),
        (f"{RECEIVERS}.instead.pager.webhook_configs[0].url=http://x", "instead.pager: no such receiver"),
        ("exporters.postgres.enabled=true", "exporters.postgres.secret"),
        ("prometheus.image=prom/prometheus", "image"),
        ("loki.retention=7d", "retention"),
    ],
)
def test_values_that_dont_belong_together_are_refused_by_name(values: str, words: str) -> None:
    rendered("observability")
    done = helm("template", "x", "charts/observability", "--kube-version", KUBERNETES, "--set", values)
    assert done.returncode != 0
    assert words in done.stderr
