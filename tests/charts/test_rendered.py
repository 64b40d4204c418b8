"""What the charts make, whatever the values: hardened pods, no secret in the open, one way in, and nothing typed by
hand that the code knows.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from services.gateway.settings import parse_networks
from services.registry import SERVICES
from tests.charts.conftest import CHARTS, KUBERNETES, RELEASES, Manifest, helm, of_kind, pods, rendered

LOGIN = re.compile(r"://[^/]*:[^/]*@")
every_release = pytest.mark.parametrize("release", RELEASES)


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
def test_only_the_operator_has_a_token_of_the_cluster(release: str) -> None:
    with_token = {name for name, spec in pods(rendered(release)).items() if spec["automountServiceAccountToken"]}
    assert with_token == ({"Deployment operator"} if release == "operator" else set())
    assert all(
        spec["enableServiceLinks"] is False for name, spec in pods(rendered(release)).items() if "Pod" not in name
    )


@every_release
def test_no_password_is_in_an_environment_or_an_argument(release: str) -> None:
    for name, spec in pods(rendered(release)).items():
        for container in spec["containers"]:
            assert not any(word in str(container.get("args")) for word in ("password", "requirepass ")), name
            for variable in container.get("env", []):
                assert "SECRET" not in variable["name"], name
                assert not LOGIN.search(variable.get("value", "")), name
    for config in of_kind(rendered(release), "ConfigMap").values():
        assert not any(LOGIN.search(value) for value in config["data"].values())


def test_each_service_is_given_the_passwords_of_its_own_databases_alone() -> None:
    facts = yaml.safe_load((CHARTS / "caravan/files/services.yaml").read_text())
    for name in SERVICES:
        spec = pods(rendered("kind"))[f"Deployment shop-{name}"]
        sources = next(volume for volume in spec["volumes"] if volume["name"] == "secrets")["projected"]["sources"]
        paths = {item["path"] for source in sources for item in source["secret"]["items"]}
        assert {path for path in paths if path.startswith("databases/")} == {
            f"databases/{database}" for database in facts[name]["databases"]
        }
        assert "CARAVAN_DATABASE_URL" not in paths, "the administrative URL is for the migration alone"
        assert ("CARAVAN_ADMIN_PASSWORD" in paths) == (name == "identity")


def test_each_service_has_a_user_of_its_own_in_rabbitmq() -> None:
    urls = {
        name: urlsplit(url)
        for name, url in of_kind(rendered("backends"), "Secret")["caravan-backends"]["stringData"].items()
        if "RABBITMQ" in name
    }
    assert {name: url.username for name, url in urls.items()} == {
        f"{name}.CARAVAN_RABBITMQ_URL": name for name in SERVICES
    }
    shop = pods(rendered("kind"))
    for name in SERVICES:
        sources = next(volume for volume in shop[f"Deployment shop-{name}"]["volumes"] if volume["name"] == "secrets")[
            "projected"
        ]["sources"]
        keys = {
            item["key"]: item["path"]
            for source in sources
            for item in source["secret"]["items"]
            if "RABBITMQ" in item["path"]
        }
        assert keys == {f"{name}.CARAVAN_RABBITMQ_URL": "CARAVAN_RABBITMQ_URL"}, name


def test_who_has_one_url_for_all_services_says_so_and_keda_asks_with_it() -> None:
    one = ("--set", "backends.keys={CARAVAN_RABBITMQ_URL},backends.ownKeys={CARAVAN_RABBITMQ_URL}")
    for options, key in (((), "payments.CARAVAN_RABBITMQ_URL"), (one, "CARAVAN_RABBITMQ_URL")):
        made = rendered("production", *options)
        (reference,) = of_kind(made, "TriggerAuthentication")["shop-payments"]["spec"]["secretTargetRef"]
        assert reference == {"parameter": "host", "name": "caravan-backends", "key": key}
        triggers = of_kind(made, "ScaledObject")["shop-payments"]["spec"]["triggers"]
        assert {trigger["authenticationRef"]["name"] for trigger in triggers if trigger["type"] == "rabbitmq"} == {
            "shop-payments"
        }
        sources = next(
            volume for volume in pods(made)["Deployment shop-payments"]["volumes"] if volume["name"] == "secrets"
        )["projected"]["sources"]
        assert [
            item["key"] for source in sources for item in source["secret"]["items"] if "RABBITMQ" in item["path"]
        ] == [key]


def test_each_backend_has_a_password_of_its_own_and_the_services_administer_none() -> None:
    secrets = of_kind(rendered("backends"), "Secret")
    urls = {
        name: urlsplit(url) for name, url in secrets["caravan-backends"]["stringData"].items() if name.endswith("_URL")
    }
    admin = secrets["caravan-rabbitmq"]["stringData"]
    found = [url.password for url in urls.values()] + [admin["password"]]
    assert len(urls) == 3 + len(SERVICES)
    assert len(set(found)) == len(urls) + 1
    assert all(len(password or "") >= 24 for password in found)
    definitions = json.loads(secrets["caravan-backends"]["stringData"]["definitions.json"])
    users = {user["name"]: user for user in definitions["users"]}
    assert users[admin["username"]]["password"] == admin["password"]
    for name in SERVICES:
        assert users[name] == {"name": name, "password": urls[f"{name}.CARAVAN_RABBITMQ_URL"].password, "tags": []}
    for file in ("valkey-cache.conf", "valkey-jobs.conf"):
        text = secrets["caravan-backends"]["stringData"][file]
        assert "user default off" in text
        assert "-@admin -@dangerous" in text
        assert "requirepass" not in text


def test_kafka_is_told_its_listeners_its_address_and_its_memory() -> None:
    (container,) = pods(rendered("backends"))["StatefulSet backends-kafka"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert all(re.fullmatch(r"KAFKA_[A-Z_]+", name) for name in environment)
    assert environment["KAFKA_CONTROLLER_LISTENER_NAMES"] == "CONTROLLER"
    assert environment["KAFKA_HEAP_OPTS"] == "-Xmx384m"
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://backends-kafka:9092"


def test_a_pod_of_a_backend_mounts_what_is_its_own() -> None:
    mounted = {}
    for name, spec in pods(rendered("backends")).items():
        items = [item["key"] for volume in spec["volumes"] for item in volume.get("secret", {}).get("items", [])]
        assert all("items" in volume["secret"] for volume in spec["volumes"] if "secret" in volume), (
            "never a whole secret"
        )
        mounted[name.removeprefix("StatefulSet backends-")] = items
    assert mounted == {
        "postgres": ["postgres-password"],
        "kafka": [],
        "rabbitmq": ["rabbitmq.conf", "definitions.json"],
        "cache": ["valkey-cache.conf"],
        "jobs": ["valkey-jobs.conf"],
        "mail": [],
    }


def test_rabbitmqs_administrator_is_for_the_operator_and_the_job_that_makes_the_topology() -> None:
    with_it = {
        name
        for name, spec in pods(rendered("kind", "--set", "topology.by=job")).items()
        if "caravan-rabbitmq" in str(spec)
    }
    assert with_it == {"Job shop-topology"}
    assert "caravan-backends" not in str(of_kind(rendered("operator"), "Role"))


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


@pytest.mark.parametrize("release", ["kind", "lite", "production"])
def test_only_the_gateway_is_reached_from_outside_and_not_its_probes(release: str) -> None:
    manifests = rendered(release)
    backends = [
        path["backend"]["service"]
        for ingress in of_kind(manifests, "Ingress").values()
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert all(backend == {"name": "shop-gateway", "port": {"name": "http"}} for backend in backends)
    assert {service["spec"].get("type", "ClusterIP") for service in of_kind(manifests, "Service").values()} == {
        "ClusterIP"
    }
    opened = {
        name
        for name, policy in of_kind(manifests, "NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", [])
        if {"port": "http"} in rule["ports"] and any("namespaceSelector" in peer for peer in rule["from"])
    }
    assert opened == {"shop-gateway"}


def test_a_service_may_call_those_whose_client_it_uses_and_no_others() -> None:
    policies = of_kind(rendered("kind"), "NetworkPolicy")
    assert policies["shop-deny-all"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & policies["shop-deny-all"]["spec"].keys()
    called = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in policies["shop-orders"]["spec"]["egress"]
        if rule["ports"] == [{"port": 8080}]
        for peer in rule["to"]
    }
    assert called == {"catalog", "identity", "inventory", "payments"}


def peers(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    return [
        (name, peer)
        for name, policy in of_kind(manifests, "NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])
        for peer in rule.get("from", []) + rule.get("to", [])
    ]


@every_release
@pytest.mark.parametrize("more", ["", "allNamespaces=true", "namespaces={shop,store}"])
def test_a_label_that_anybody_may_give_a_pod_opens_nothing_from_another_namespace(release: str, more: str) -> None:
    if more and release != "operator":
        more = ""
    found = peers(rendered(release, *(("--set", more) if more else ())))
    assert found
    for name, peer in found:
        assert "namespaceSelector" not in peer or any(peer["namespaceSelector"].values()), (
            f"{name}: pods of any namespace"
        )
        assert "ipBlock" not in peer or not peer["ipBlock"]["cidr"].endswith("/0"), name


def test_the_operator_answers_the_namespaces_that_it_serves_and_the_shop_asks_where_its_url_says() -> None:
    def asked(*namespaces: str) -> list[Manifest]:
        given = ("--set", f"namespaces={{{','.join(namespaces)}}}") if namespaces else ()
        (policy,) = of_kind(rendered("operator", *given), "NetworkPolicy").values()
        return next(rule["from"] for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": "snapshots"}])

    for served in (("shop",), ("shop", "store")):
        (peer,) = asked(*served)
        assert peer["namespaceSelector"]["matchExpressions"][0]["values"] == list(served)
        assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "caravan"}
    assert asked() == asked("shop"), "its own namespace"
    for url, namespace in {
        "http://operator:8081": "shop",
        "http://operator.ops:8081": "ops",
        "https://operator.ops.svc.cluster.local:8081": "ops",
    }.items():
        policy = of_kind(rendered("kind", "--set", f"discovery.operatorUrl={url}"), "NetworkPolicy")["shop-orders"][
            "spec"
        ]
        asks = [peer for rule in policy["egress"] if rule["ports"] == [{"port": 8081}] for peer in rule["to"]]
        is_asked = [
            peer for rule in policy["ingress"] if rule["ports"] == [{"port": "probes"}] for peer in rule["from"]
        ]
        (peer,) = asks
        assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        assert peer in is_asked


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


def test_each_service_is_a_route_and_public_only_where_it_serves_clients() -> None:
    facts = yaml.safe_load((CHARTS / "caravan/files/services.yaml").read_text())
    routes = of_kind(rendered("kind"), "ServiceRoute")
    assert routes.keys() == set(SERVICES) - {"gateway"}
    for name, route in routes.items():
        assert route["spec"]["serviceRef"] == {"name": f"shop-{name}", "port": "http"}
        assert route["spec"].get("routes", []) == ([{"pathsFrom": "OpenAPI"}] if facts[name]["public"] else [])
    assert not of_kind(rendered("lite"), "ServiceRoute")
    assert not of_kind(rendered("kind", "--set", "discovery.by=names"), "ServiceRoute")


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


def test_an_http_route_sends_everything_to_the_gateway_and_nowhere_else() -> None:
    manifests = rendered(
        "kind", "--set", "ingress.enabled=false,httpRoute.enabled=true,httpRoute.parentRefs[0].name=edge"
    )
    (route,) = of_kind(manifests, "HTTPRoute").values()
    assert route["spec"]["parentRefs"] == [{"name": "edge"}]
    assert route["spec"]["hostnames"] == ["shop.local"]
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "shop-gateway", "port": 8080}]
    assert not of_kind(manifests, "Ingress")


@pytest.mark.parametrize("way", ["ingress.enabled=true", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=edge"])
@pytest.mark.parametrize("proxies", ["", " ", "0.0.0.0/0", "10.0.0.0/8\\,::/0"])
@pytest.mark.parametrize(
    "values",
    [(), ("--values", "charts/caravan/values-lite.yaml"), ("--values", "charts/caravan/values-production.yaml")],
)
def test_what_is_reached_through_a_proxy_knows_which_or_is_not_made(
    way: str, proxies: str, values: tuple[str, ...]
) -> None:
    rendered("kind")
    options = ("--set", way, "--set-string", f"settings.GATEWAY_TRUSTED_PROXIES={proxies}")
    done = helm("template", "shop", "charts/caravan", "--kube-version", KUBERNETES, *values, *options)
    assert done.returncode != 0
    assert "settings.GATEWAY_TRUSTED_PROXIES: " in done.stderr


@pytest.mark.parametrize("release", ["kind", "lite", "production", "defaults"])
def test_a_gateway_behind_an_ingress_believes_its_proxies_alone(release: str) -> None:
    manifests = rendered(release)
    named = of_kind(manifests, "ConfigMap")["shop-settings"]["data"].get("GATEWAY_TRUSTED_PROXIES")
    assert bool(named) == bool(of_kind(manifests, "Ingress"))
    assert not parse_networks(named or "") or all(network.prefixlen > 0 for network in parse_networks(named or ""))
    given = rendered(
        "defaults", "--set", "ingress.enabled=true,services.gateway.env.GATEWAY_TRUSTED_PROXIES=10.1.0.0/16"
    )
    assert of_kind(given, "Ingress")


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
