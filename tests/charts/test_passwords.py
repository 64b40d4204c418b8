"""Who is given which password and user, in the rendered charts."""

import json
import re
from urllib.parse import urlsplit

import yaml

from services.registry import SERVICES
from tests.charts.conftest import CHARTS, of_kind, pods, rendered
from tests.charts.releases import every_release

LOGIN = re.compile(r"://[^/]*:[^/]*@")


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
