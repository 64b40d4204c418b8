"""TLS and logins for managed backends: who is given which certificate, and what the values must not say."""

import re
from pathlib import Path

import pytest

from services.registry import SERVICES
from tests.charts.conftest import KUBERNETES, ROOT, Manifest, helm, of_kind, pods, rendered

TLS_VALUES = (
    "backends.kafkaProtocol=SASL_SSL",
    "backends.kafkaSaslMechanism=SCRAM-SHA-512",
    "backends.ownKeys={CARAVAN_RABBITMQ_URL,CARAVAN_KAFKA_USERNAME,CARAVAN_KAFKA_PASSWORD}",
    "backends.tls.database.caSecretRef.name=postgres-ca",
    "backends.tls.jobsRedis.caSecretRef.name=jobs-ca",
    "backends.tls.kafka.caSecretRef.name=kafka-ca",
    "backends.tls.rabbitmq.caSecretRef.name=rabbitmq-ca",
    "backends.tls.rabbitmq.clientSecretRef.name=rabbitmq-client",
)
WITH_TLS = ("--set", ",".join(TLS_VALUES))


def list_certificates(spec: Manifest) -> dict[str, str]:
    """The path of each file of CARAVAN_CERTIFICATES, with its secret and key."""
    volumes = [volume for volume in spec["volumes"] if volume["name"] == "certificates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert ("certificates" in mounts) == bool(volumes)
    return {
        f"{mounts['certificates']}/{item['path']}": f"{source['secret']['name']} {item['key']}"
        for volume in volumes
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


def test_each_pod_has_the_certificates_of_the_servers_that_it_connects_to() -> None:
    folder = "/etc/caravan/certificates"
    database = {f"{folder}/database/ca.crt": "postgres-ca ca.crt"}
    brokers = {
        f"{folder}/kafka/ca.crt": "kafka-ca ca.crt",
        f"{folder}/rabbitmq/ca.crt": "rabbitmq-ca ca.crt",
        f"{folder}/rabbitmq/tls.crt": "rabbitmq-client tls.crt",
        f"{folder}/rabbitmq/tls.key": "rabbitmq-client tls.key",
    }
    by_pod = {
        name: list_certificates(spec)
        for name, spec in pods(rendered("kind", *WITH_TLS, "--set", "topology.by=job,seed=demo")).items()
    }
    everything = database | brokers | {f"{folder}/jobs-redis/ca.crt": "jobs-ca ca.crt"}
    assert {name: by_pod[f"Deployment shop-{name}"] for name in SERVICES} == dict.fromkeys(SERVICES, everything)
    assert by_pod["Job shop-migration"] == database
    assert by_pod["Job shop-topology"] == brokers
    assert by_pod["Job shop-seed"] == {}
    assert not any(map(list_certificates, pods(rendered("kind")).values()))


def test_the_protocol_of_kafka_is_a_setting_and_its_login_a_secret() -> None:
    manifests = rendered("kind", *WITH_TLS, "--set", "topology.by=job")
    settings = of_kind(manifests, "ConfigMap")["shop-settings"]["data"]
    topology = pods(manifests)["Job shop-topology"]
    environment = {variable["name"]: variable["value"] for variable in topology["containers"][0]["env"]}
    for given in (settings, environment):
        assert given["CARAVAN_KAFKA_PROTOCOL"] == "SASL_SSL"
        assert given["CARAVAN_KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
        assert given["CARAVAN_CERTIFICATES"] == "/etc/caravan/certificates"
        assert "CARAVAN_KAFKA_PASSWORD" not in given
    logins = {
        name: {
            item["path"]: f"{source['secret']['name']} {item['key']}"
            for volume in pods(manifests)[name]["volumes"]
            if volume["name"] == "secrets"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
            if item["path"].startswith("CARAVAN_KAFKA")
        }
        for name in ("Deployment shop-orders", "Job shop-topology", "Job shop-migration")
    }
    assert logins == {
        "Deployment shop-orders": {
            name: f"caravan-backends orders.{name}" for name in ("CARAVAN_KAFKA_USERNAME", "CARAVAN_KAFKA_PASSWORD")
        },
        "Job shop-topology": {
            name: f"caravan-rabbitmq {name}" for name in ("CARAVAN_KAFKA_USERNAME", "CARAVAN_KAFKA_PASSWORD")
        },
        "Job shop-migration": {},
    }


def test_what_scales_by_lag_logs_in_as_the_service_does() -> None:
    manifests = rendered("production", *WITH_TLS)
    trigger = of_kind(manifests, "ScaledObject")["shop-payments"]["spec"]["triggers"][0]
    assert (trigger["metadata"]["tls"], trigger["metadata"]["sasl"]) == ("enable", "scram_sha512")
    authentications = of_kind(manifests, "TriggerAuthentication")
    by_parameter = {
        name: {
            one["parameter"]: f"{one['name']} {one['key']}" for one in authentications[name]["spec"]["secretTargetRef"]
        }
        for name in ("shop-payments", "shop-payments-kafka")
    }
    assert trigger["authenticationRef"]["name"] == "shop-payments-kafka"
    assert by_parameter == {
        "shop-payments": {
            "host": "caravan-backends payments.CARAVAN_RABBITMQ_URL",
            "ca": "rabbitmq-ca ca.crt",
            "cert": "rabbitmq-client tls.crt",
            "key": "rabbitmq-client tls.key",
        },
        "shop-payments-kafka": {
            "ca": "kafka-ca ca.crt",
            "username": "caravan-backends payments.CARAVAN_KAFKA_USERNAME",
            "password": "caravan-backends payments.CARAVAN_KAFKA_PASSWORD",
        },
    }
    (setting,) = authentications["shop-payments"]["spec"]["configMapTargetRef"]
    assert of_kind(manifests, "ConfigMap")[setting["name"]]["data"] == {setting["parameter"]: "enable"}
    assert "configMapTargetRef" not in str(rendered("production"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("backends.kafkaProtocol=SASL_SSL", "backends.kafkaSaslMechanism goes with"),
        ("backends.kafkaSaslMechanism=PLAIN", "backends.kafkaSaslMechanism goes with"),
        (
            "backends.kafkaProtocol=SASL_SSL,backends.kafkaSaslMechanism=PLAIN",
            "backends.keys or backends.ownKeys must have CARAVAN_KAFKA_USERNAME",
        ),
        ("backends.tls.kafka.caSecretRef.name=ca", "backends.tls.kafka goes with backends.kafkaProtocol SSL"),
        ("backends.tls.kafka.caSecretRef=ca", "caSecretRef"),
        ("backends.tls.kafak.caSecretRef.name=ca", "kafak"),
    ],
)
def test_values_of_tls_that_dont_belong_together_are_refused(values: str, words: str) -> None:
    rendered("kind")
    done = helm(
        "template",
        "shop",
        "charts/caravan",
        "--values",
        "charts/caravan/values-kind.yaml",
        "--set",
        values,
        "--kube-version",
        KUBERNETES,
    )
    assert done.returncode != 0
    assert words in done.stderr


def test_the_values_of_the_page_on_managed_backends_render(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/managed-backends.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "values.yaml").write_text(block)
    manifests = rendered("production", "--values", str(tmp_path / "values.yaml"))
    orders = pods(manifests)["Deployment shop-orders"]
    assert {path.rsplit("/", 2)[1] for path in list_certificates(orders)} == {"database", "rabbitmq"}
    assert of_kind(manifests, "KafkaConnection")["kafka"]["spec"]["security"]["protocol"] == "SASL_SSL"
