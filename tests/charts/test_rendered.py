"""What the charts make, whatever the values: hardened pods, no secret in the open, one way in, and nothing typed by
hand that the code knows.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from services.registry import SERVICES
from tests.charts.conftest import CHARTS, RELEASES, helm, of_kind, pods, rendered
from tests.charts.releases import every_release


@every_release
def test_every_pod_keeps_the_restricted_profile_and_a_root_that_cant_be_written(release: str) -> None:
    for name, spec in pods(rendered(release)).items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.get("hostNetwork") and not spec.get("hostPID"), name
        assert all("hostPath" not in volume for volume in spec["volumes"]), name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"requests", "limits"} <= container["resources"].keys(), name
            assert not container["image"].endswith(":latest"), name


@every_release
def test_only_who_watches_the_cluster_has_a_token_of_it(release: str) -> None:
    with_token = {name for name, spec in pods(rendered(release)).items() if spec["automountServiceAccountToken"]}
    if not release.startswith("observability"):  # tests/charts/test_observability.py
        assert with_token == ({"Deployment operator"} if release == "operator" else set())
    assert all(
        spec["enableServiceLinks"] is False for name, spec in pods(rendered(release)).items() if "Pod" not in name
    )


def test_kafka_is_told_its_listeners_its_address_and_its_memory() -> None:
    (container,) = pods(rendered("backends"))["StatefulSet backends-kafka"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert all(re.fullmatch(r"KAFKA_[A-Z_]+", name) for name in environment)
    assert environment["KAFKA_CONTROLLER_LISTENER_NAMES"] == "CONTROLLER"
    assert environment["KAFKA_HEAP_OPTS"] == "-Xmx384m"
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://backends-kafka:9092"


def test_in_development_the_reloader_runs_the_same_program() -> None:
    for name, spec in pods(rendered("kind", "--set", "development=true")).items():
        if name.startswith("Deployment"):
            (container,) = spec["containers"]
            assert container["command"] == ["reload", "caravan", "run", name.removeprefix("Deployment shop-")]
            assert "livenessProbe" not in container, "a restart would bring back the code of the image"
    for name, route in of_kind(rendered("kind", "--set", "development=true"), "ServiceRoute").items():
        assert route["spec"]["circuitBreaker"]["openFor"] == "500ms", (
            f"{name}: one that starts anew for an edit is left alone"
        )
    ((name, operator),) = pods(rendered("operator", "--set", "development=true")).items()
    assert operator["containers"][0]["command"] == ["reload", "caravan-operator"]
    assert operator["containers"][0]["args"][0] == "run"


def test_rolling_never_takes_a_pod_away_before_the_new_one_is_ready() -> None:
    for deployment in of_kind(rendered("production"), "Deployment").values():
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        leaves = container["lifecycle"]["preStop"]["sleep"]["seconds"] + 15
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > leaves
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_production_scales_by_load_or_by_what_waits_never_by_both() -> None:
    manifests = rendered("production")
    by_load, by_lag = of_kind(manifests, "HorizontalPodAutoscaler"), of_kind(manifests, "ScaledObject")
    assert by_load.keys().isdisjoint(by_lag)
    assert by_load.keys() | by_lag.keys() == {f"shop-{name}" for name in SERVICES}
    groups = {
        trigger["metadata"]["consumerGroup"]
        for trigger in by_lag["shop-processing"]["spec"]["triggers"]
        if trigger["type"] == "kafka"
    }
    assert "processing.order-created" in groups
    assert all("replicas" not in deployment["spec"] for deployment in of_kind(manifests, "Deployment").values())
    assert of_kind(manifests, "PodDisruptionBudget").keys() == {f"shop-{name}" for name in SERVICES}


def test_a_service_can_be_of_another_version_than_the_rest() -> None:
    deployments = of_kind(rendered("kind", "--set", "services.catalog.image.tag=older"), "Deployment")
    before = of_kind(rendered("kind"), "Deployment")
    assert [name for name in deployments if deployments[name] != before[name]] == ["shop-catalog"]


def test_the_gateway_alone_is_given_the_registry_of_trusted_documents() -> None:
    by_pod = pods(rendered("kind", "--set", "graphqlRegistry.configMap=shop-documents,graphqlRegistry.key=all.json"))
    given = {
        name: [volume["configMap"]["name"] for volume in spec["volumes"] if volume["name"] == "graphql-registry"]
        for name, spec in by_pod.items()
    }
    assert {name: maps for name, maps in given.items() if maps} == {"Deployment shop-gateway": ["shop-documents"]}
    container = by_pod["Deployment shop-gateway"]["containers"][0]
    folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "graphql-registry")
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert environment["GATEWAY_GRAPHQL_REGISTRY"] == f"{folder}/all.json"


def test_messaging_is_what_the_declarations_say_with_as_many_replicas_as_asked_for() -> None:
    declared = yaml.safe_load((CHARTS / "caravan/files/topology.yaml").read_text())
    manifests = rendered("production")
    for kind in {resource["kind"] for resource in declared}:
        assert of_kind(manifests, kind).keys() == {r["metadata"]["name"] for r in declared if r["kind"] == kind}
    topic = of_kind(manifests, "KafkaTopic")["order-created"]["spec"]
    assert (topic["replicas"], topic["config"]["minInsyncReplicas"], topic["deletionPolicy"]) == (3, 2, "Retain")
    assert not any(
        "helm.sh/hook" in resource["metadata"].get("annotations", {})
        for resource in manifests
        if resource["kind"] == "KafkaTopic"
    )
    by_job = rendered("kind", "--set", "topology.by=job")
    assert not of_kind(by_job, "KafkaTopic")
    assert "Job shop-topology" in pods(by_job)


def test_crds_stay_when_the_operator_goes() -> None:
    crds = of_kind(rendered("operator"), "CustomResourceDefinition")
    assert len(crds) == len(list((CHARTS / "caravan-operator/files/crds").glob("*.yaml")))
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds.values())


def test_the_operator_has_the_rights_that_its_code_declares_and_no_others() -> None:
    declared = yaml.safe_load((CHARTS / "caravan-operator/files/rbac.yaml").read_text())
    roles = of_kind(rendered("operator"), "Role")
    watched = declared["watched"] + [rule | {"resourceNames": ["caravan-rabbitmq"]} for rule in declared["secrets"]]
    assert roles["operator"]["rules"] == watched
    assert roles["operator-leader"]["rules"] == declared["ownNamespace"]
    assert not of_kind(rendered("operator"), "ClusterRole")
    rules = of_kind(rendered("operator", "--set", "allNamespaces=true"), "ClusterRole")["shop-operator"]["rules"]
    assert rules == watched + declared["cluster"]
    assert not any("*" in str(rule) for rule in rules)


@pytest.mark.parametrize(
    ("chart", "values"), [(chart, value) for _, chart, values in RELEASES.values() for value in (values or (None,))]
)
def test_lint_finds_nothing(chart: str, values: str | None) -> None:
    rendered("kind")
    done = helm("lint", "--strict", f"charts/{chart}", *(["--values", f"charts/{chart}/{values}"] if values else []))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("chart", "setting"),
    [
        ("caravan", "ingres.enabled=true"),
        ("caravan", "defaults.replica=3"),
        ("caravan", "services.orders.replicas=many"),
        ("caravan", "topology.by=hand"),
        ("caravan", "backends.keys={}"),
        ("caravan", "httpRoute.enabled=true"),  # without a Gateway that takes it
        ("backends", "kafka.replicas=3"),
        ("caravan-operator", "namespace=shop"),
        ("caravan", "telemetry.otlpEndpoint=collector"),
        ("caravan-operator", "telemetry.endpoint=http://collector:4318"),
        ("observability", "loki.size=5Gi"),
        ("observability", "namespaces={}"),
    ],
)
def test_a_misspelt_or_wrong_value_is_refused_by_name(chart: str, setting: str) -> None:
    rendered("kind")
    done = helm("template", "x", f"charts/{chart}", "--kube-version", "1.34.0", "--set", setting)
    assert done.returncode != 0
    assert any(part in done.stderr for part in setting.partition("=")[0].split("."))


@every_release
def test_manifests_are_valid_by_the_schemas_of_their_kinds(release: str, tmp_path: Path) -> None:
    if not shutil.which("kubeconform"):
        pytest.skip("kubeconform is not on the PATH")
    crds = of_kind(rendered("operator"), "CustomResourceDefinition").values()
    for crd in crds:
        version = crd["spec"]["versions"][0]
        schema = tmp_path / f"{crd['spec']['names']['kind'].lower()}_{version['name']}.json"
        schema.write_text(json.dumps(version["schema"]["openAPIV3Schema"]))
    ours = {crd["spec"]["names"]["kind"] for crd in crds}
    text = yaml.safe_dump_all([manifest for manifest in rendered(release) if manifest["kind"] in ours])
    done = subprocess.run(
        [
            "kubeconform",
            "-strict",
            "-summary",
            "-schema-location",
            f"{tmp_path}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
        ],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
