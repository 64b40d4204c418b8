"""What a reader of values writes arrives as the text that it is, and every name that one object looks up is the name
that another one has.
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from services.registry import SERVICES
from tests.charts.conftest import CHARTS, Manifest, helm, of_kind, pods, rendered

# Read by YAML as something other than the text that they are when they are written without quotes.
ODD = ["on", "no", "null", "~", "true", "1e3", "0x1F", "0777", "12:30:00", "2026-11-29", "a: b", "# not a comment",
    "{a}", "[", "- x", "*a", "&a", "%", "@",
       "'", '"', "\\n", "line\nline", "ends with :", " spaces ", "", "ß→🙂"]  # fmt: skip
NUMBERS: list[tuple[float | bool, str]] = [
    (12_500_000, "12500000"),
    (1_000_000, "1000000"),
    (999_999_999_999_999, "999999999999999"),
    (-3_000_000, "-3000000"),
    (0, "0"),
    (0.5, "0.5"),
    (2.75e6, "2750000"),
    (True, "true"),
    (False, "false"),
]
LONGEST = 53  # Helm's own bound of a release's name
RELEASES = ["on", "true", "e3", "s" * 38 + "-" * 8 + "s", "s" * 47, "s" * 48, "s" * LONGEST, "s" * (LONGEST - 1) + "t"]


def written(**values: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A map of every odd text and number, and the texts that are to come out."""
    odd = {f"ODD_{number}": text for number, text in enumerate(ODD)}
    whole = {f"WHOLE_{number}": pair for number, pair in enumerate(NUMBERS)}
    return odd | {name: value for name, (value, _) in whole.items()}, odd | {
        name: text for name, (_, text) in whole.items()
    }


def render(chart: str, release: str, folder: Path, values: dict[str, Any], *more: str) -> list[Manifest]:
    rendered("kind")
    file = folder / "values.yaml"
    file.write_text(json.dumps(values, ensure_ascii=False))
    done = helm(
        "template",
        release,
        f"charts/{chart}",
        "--namespace",
        "shop",
        "--kube-version",
        "1.34.0",
        *more,
        "--values",
        str(file),
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def texts(node: Any, under: str = "") -> list[tuple[str, Any]]:
    """Each value that Kubernetes takes as text alone: labels, annotations, node selectors, data of ConfigMaps, and
    values in an environment.
    """
    found = []
    if isinstance(node, dict):
        if under in ("labels", "matchLabels", "annotations", "nodeSelector", "data", "stringData"):
            return [(f"{under}.{name}", value) for name, value in node.items()]
        if under == "env" and "value" in node:
            found.append((f"env.{node['name']}", node["value"]))
        for name, value in node.items():
            found += texts(value, name)
    elif isinstance(node, list):
        for value in node:
            found += texts(value, under)
    return found


def test_settings_annotations_and_selectors_are_the_texts_that_were_written(tmp_path: Path) -> None:
    given, expected = written()
    values = {
        "settings": given | {"GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8"},
        "ingress": {"enabled": True, "annotations": given},
        "services": {
            "orders": {"env": given, "podAnnotations": given, "nodeSelector": given},
            "processing": {"keda": {"enabled": True, "lag": 1_000_000}},
        },
    }
    manifests = render("caravan", "shop", tmp_path, values)
    config = of_kind(manifests, "ConfigMap")["shop-settings"]["data"]
    deployment = of_kind(manifests, "Deployment")["shop-orders"]["spec"]["template"]
    environment = {variable["name"]: variable["value"] for variable in deployment["spec"]["containers"][0]["env"]}
    for found in (
        config,
        environment,
        deployment["metadata"]["annotations"],
        deployment["spec"]["nodeSelector"],
        of_kind(manifests, "Ingress")["shop-gateway"]["metadata"]["annotations"],
    ):
        assert expected == {name: found[name] for name in expected}
    lags = {
        trigger["metadata"].get("lagThreshold")
        for trigger in of_kind(manifests, "ScaledObject")["shop-processing"]["spec"]["triggers"]
    }
    assert "1000000" in lags


def test_null_takes_a_setting_away(tmp_path: Path) -> None:
    manifests = render("caravan", "shop", tmp_path, {"settings": {"NOTIFICATIONS_SMTP_URL": None}})
    assert "NOTIFICATIONS_SMTP_URL" not in of_kind(manifests, "ConfigMap")["shop-settings"]["data"]


@pytest.mark.parametrize("number", ["12345678901234567890", "9007199254740993", "-9007199254740993"])
def test_a_number_that_would_lose_digits_is_refused(number: str, tmp_path: Path) -> None:
    rendered("kind")
    (tmp_path / "values.yaml").write_text(f"settings: {{ORDERS_LIMIT: {number}}}\n")
    done = helm(
        "template", "shop", "charts/caravan", "--kube-version", "1.34.0", "--values", str(tmp_path / "values.yaml")
    )
    assert done.returncode != 0
    assert "write it in quotes" in done.stderr


@pytest.mark.parametrize("release", ["on", "null", "s" * LONGEST])
@pytest.mark.parametrize("chart", ["caravan", "caravan-operator", "backends"])
def test_whatever_is_a_text_to_kubernetes_is_a_text(chart: str, release: str, tmp_path: Path) -> None:
    odd = {"priorityClassName": "on", "nodeSelector": {"pool": 1}}
    values: dict[str, dict[str, Any]] = {
        "caravan": {"defaults": odd, "image": {"tag": "1e3"}, "secrets": {"name": "on"}, "backends": {"secret": "no"}},
        "caravan-operator": odd | {"image": {"repository": "r", "tag": "1e3"}, "namespaces": ["null"]},
        "backends": {"secret": "no", "storageClass": "on"},
    }
    manifests = [m for m in render(chart, release, tmp_path, values[chart]) if m["kind"] != "CustomResourceDefinition"]
    assert [
        (name, value) for manifest in manifests for name, value in texts(manifest) if not isinstance(value, str)
    ] == []
    for manifest in manifests:
        assert isinstance(manifest["metadata"]["name"], str)
        assert manifest["metadata"].get("labels", {}).get("app.kubernetes.io/instance", release) == release
    for name, spec in pods(manifests).items():
        assert isinstance(spec.get("priorityClassName", ""), str), name
        for container in spec["containers"]:
            assert isinstance(container["image"], str) and all(
                isinstance(word, str) for word in container.get("args", [])
            ), name
        for volume in spec["volumes"]:
            assert isinstance(volume.get("secret", {}).get("secretName", ""), str), name


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("by", ["names", "operator"])
def test_every_name_that_is_looked_up_is_made(by: str, release: str, tmp_path: Path) -> None:
    values = {
        "discovery": {"by": by},
        "seed": "demo",
        "services": {"processing": {"keda": {"enabled": True}}},
    }
    manifests = render("caravan", release, tmp_path, values)
    made = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    assert len(made) == len(manifests), "two objects have one name"
    assert all(len(name) <= 63 for _, name in made)
    settings = next(iter(of_kind(manifests, "ConfigMap").values()))["data"]
    looked_up = {
        (
            "Service",
            settings["CARAVAN_DISCOVERY"].removeprefix("http://").removesuffix(":8080").replace("{service}", name),
        )
        for name in SERVICES
    }
    for spec in pods(manifests).values():
        for container in spec["containers"]:
            looked_up |= {("ConfigMap", source["configMapRef"]["name"]) for source in container.get("envFrom", [])}
            looked_up |= {
                ("Service", host) for host in re.findall(r"http://([-a-z0-9]+):8080", str(container.get("args")))
            }
        looked_up |= {("ServiceAccount", spec["serviceAccountName"])} if "serviceAccountName" in spec else set()
    for scaler in of_kind(manifests, "ScaledObject").values():
        looked_up |= {("Deployment", scaler["spec"]["scaleTargetRef"]["name"])}
        looked_up |= {
            ("TriggerAuthentication", t["authenticationRef"]["name"])
            for t in scaler["spec"]["triggers"]
            if "authenticationRef" in t
        }
    for route in of_kind(manifests, "ServiceRoute").values():
        looked_up |= {("Service", route["spec"]["gateway"]), ("Service", route["spec"]["serviceRef"]["name"])}
    if by == "operator":
        looked_up |= {("Service", settings["CARAVAN_REGISTRY_URL"].rpartition("/")[2])}
    assert looked_up <= made, looked_up - made


def test_two_long_releases_beside_each_other_share_no_name(tmp_path: Path) -> None:
    one, other = (
        {
            (m["kind"], m["metadata"]["name"])
            for m in render("caravan", "s" * (LONGEST - 1) + last, tmp_path, {})
            if m["kind"] == "Service"
        }
        for last in "st"
    )
    assert not one & other


@pytest.mark.parametrize("release", RELEASES)
def test_backends_are_where_their_secret_says(release: str, tmp_path: Path) -> None:
    manifests = render("backends", release, tmp_path, {})
    services = of_kind(manifests, "Service")
    data = [
        (name, text) for secret in of_kind(manifests, "Secret").values() for name, text in secret["stringData"].items()
    ]
    hosts = {urlsplit(url).hostname for name, url in data if name.endswith("_URL")}
    servers = [
        secret["metadata"]["annotations"].get("messaging.caravan.dev/servers", "")
        for secret in of_kind(manifests, "Secret").values()
    ]
    assert {urlsplit(server).hostname for server in servers if server} <= services.keys()
    assert hosts <= services.keys()
    assert len(hosts) == 4
    for name, stateful in of_kind(manifests, "StatefulSet").items():
        assert len(name) <= 52
        assert stateful["spec"]["serviceName"] == name
        assert name in services


def test_the_volume_of_a_long_release_keeps_its_name(tmp_path: Path) -> None:
    values = ("--values", "charts/caravan/values-lite.yaml")
    assert of_kind(render("caravan", "s" * LONGEST, tmp_path, {}, *values), "PersistentVolumeClaim").keys() == {
        "s" * LONGEST + "-gateway"
    }


@pytest.mark.parametrize("release", ["1shop", "a.b"])
def test_a_release_after_which_no_service_can_be_named_is_refused(release: str) -> None:
    rendered("kind")
    done = helm("template", release, "charts/caravan", "--kube-version", "1.34.0")
    assert done.returncode != 0
    assert f"release {release}: expected a letter" in done.stderr


def test_a_service_of_a_longer_name_than_there_is_room_for_is_refused() -> None:
    rendered("kind")
    done = helm(
        "template",
        "shop",
        "charts/caravan",
        "--kube-version",
        "1.34.0",
        "--set",
        "services.a-name-with-20-chars.replicas=1",
    )
    assert done.returncode != 0
    assert "a-name-with-20-chars" in done.stderr


def test_all_charts_write_texts_and_names_by_the_same_rules() -> None:
    library = (CHARTS / "service-lib/templates/_text.tpl").read_text()
    assert {(CHARTS / chart / "templates/_text.tpl").read_text() for chart in ("backends", "caravan-operator")} == {
        library
    }


def test_a_misspelt_service_is_refused_and_one_of_your_own_has_an_image_or_arguments() -> None:
    rendered("kind")
    for own in ("services.order.replicas=2", "services.paymets.env.PAYMENTS_CALL_TIMEOUT_SECONDS=5"):
        done = helm("template", "shop", "charts/caravan", "--kube-version", "1.34.0", "--set", own)
        assert done.returncode != 0 and "no such service in this image; there are analytics, catalog" in done.stderr, (
            done.stderr
        )
    for own in ("services.loyalty.image.tag=mine", "services.worker.args={run,orders,payments}"):
        done = helm("template", "shop", "charts/caravan", "--kube-version", "1.34.0", "--set", own)
        assert done.returncode == 0, done.stderr
