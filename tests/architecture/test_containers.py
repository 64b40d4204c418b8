"""compose.yaml and Dockerfile keep their promises: a container per service, pinned, hardened, reachable from this
machine alone, no password in a file.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.registry import SERVICES

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_each_service_has_a_container_of_its_own_from_one_image() -> None:
    for name in SERVICES:
        assert COMPOSE[name]["command"] == ["run", name]
        assert COMPOSE[name]["image"] == COMPOSE["migrate"]["image"]
    built = {name for name, container in COMPOSE.items() if "build" in container}
    assert built == {"migrate"}


@pytest.mark.parametrize("name", COMPOSE)
def test_a_container_is_pinned_hardened_and_open_to_this_machine_only(name: str) -> None:
    container = COMPOSE[name]
    assert re.search(r":[\w.-]+\}?$", container["image"])
    assert "latest" not in container["image"]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))


@pytest.mark.parametrize("name", COMPOSE)
def test_no_password_stands_in_an_environment(name: str) -> None:
    for variable, value in COMPOSE[name].get("environment", {}).items():
        if name != "shell":  # it reads them when it runs
            assert "PASSWORD" not in variable or str(value).startswith("/run/secrets/"), (
                "where it is, and not what it is"
            )
            assert not re.search(r"://[^/]*:[^/{]*@", str(value)), variable


def test_whatever_ends_by_itself_is_waited_for_by_one_that_stays() -> None:
    """`docker compose up --wait` ends with 1 for a container that has ended, unless another depends on its success."""
    waited_for = {
        name
        for container in COMPOSE.values()
        for name, how in container.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    ending = {
        name
        for name, container in COMPOSE.items()
        if container["restart"] != "unless-stopped" and "profiles" not in container
    }
    assert ending == {"migrate", "seed", "secrets", "topology"}
    assert ending <= waited_for


def test_a_shop_without_a_profile_starts_nothing_that_watches_it() -> None:
    """And with one it is what the chart installs."""
    profiles = {name: container["profiles"] for name, container in COMPOSE.items() if "profiles" in container}
    grafana = {name for name, selected in profiles.items() if selected == ["grafana"]}
    watching = {name for name, selected in profiles.items() if selected == ["observability", "grafana"]}
    assert grafana == {"grafana"}
    assert watching == {"prometheus", "alertmanager", "loki", "jaeger", "collector"}
    chart = yaml.safe_load((ROOT / "charts/observability/values.yaml").read_text())
    for name in watching | grafana:
        assert COMPOSE[name]["image"] == chart[name]["image"]
    needed = {
        other
        for name, container in COMPOSE.items()
        if name not in profiles
        for other in container.get("depends_on", {})
    }
    assert not needed & profiles.keys()


def mounted(name: str) -> set[str]:
    return {volume.partition(":")[0] for volume in COMPOSE[name].get("volumes", []) if volume.startswith("secrets-")}


def test_each_container_reads_secrets_of_its_own_alone() -> None:
    """So that what one service knows opens nothing of another's: volumes of secrets are shared with nobody but the one
    that fills them.
    """
    holders = {name: volumes for name in COMPOSE if (volumes := mounted(name)) and name not in ("secrets", "shell")}
    assert holders == {name: {f"secrets-{name}"} for name in holders}
    assert {*SERVICES, "migrate", "topology", "postgres", "rabbitmq", "cache", "jobs"} <= holders.keys()
    assert mounted("secrets") >= {f"secrets-{name}" for name in holders}
    assert all(COMPOSE[name]["environment"]["CARAVAN_MIGRATE"] == "false" for name in SERVICES)


def test_a_service_is_given_its_own_databases_and_no_administrator() -> None:
    facts = yaml.safe_load((ROOT / "charts/caravan/files/services.yaml").read_text())
    script = COMPOSE["secrets"]["command"][-1]
    given = {name: databases.split() for name, databases in re.findall(r"^give (\S+) (.*)$", script, re.MULTILINE)}
    assert given == {name: facts[name]["databases"] for name in SERVICES}
    admins = {
        place
        for place, value in re.findall(r"put (\S+) \"(.*)\"$", script, re.MULTILINE)
        if re.search(r"\$\$(postgres|rabbitmq)\b", value)
    }
    assert admins == {"topology/CARAVAN_RABBITMQ_URL", "migrate/CARAVAN_DATABASE_URL", "postgres/postgres-password"}
    assert re.findall(r"put (\S+)/CARAVAN_ADMIN_PASSWORD", script) == ["identity"]
    locks = set(re.findall(r"kept ((?!CARAVAN)[a-z-]+)", script))
    assert locks == {"postgres", "cache", "jobs", "rabbitmq", "rabbitmq-", "database-", "grafana"}, (
        "one password for each thing that is locked"
    )


def test_the_image_runs_as_a_numbered_user_and_names_no_registry() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not text.startswith("# syntax"), "it would be pulled from a registry first"
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)[-1] == "caravan", (
        "the last stage is what `docker build .` makes"
    )


def stages() -> dict[str, set[str]]:
    """What each stage of the Dockerfile copies from the checkout."""
    copied: dict[str, set[str]] = {}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if found := re.match(r"FROM \S+ AS (\S+)", line):
            copied[stage := found[1]] = set()
        elif (found := re.match(r"COPY (?!--from)(.*) \S+$", line)) and copied:
            copied[stage] |= {word for word in found[1].split() if not word.startswith("--")}
    return copied


def test_an_image_is_made_anew_for_what_it_is_made_of_alone() -> None:
    """An edit of a service that made the operator's image anew had every release deployed again."""
    copied = stages()
    assert not {"services", "caravan", "cli"} & copied["wheel-operator"]
    assert "operator" not in copied["wheel"]
    artifacts = {
        artifact["image"]: artifact
        for artifact in yaml.safe_load((ROOT / "skaffold.yaml").read_text())["build"]["artifacts"]
    }
    for image, stage, target, code in (
        ("caravan", "wheel", "development", {"caravan/**", "services/**", "cli/**"}),
        ("caravan-operator", "wheel-operator", "operator-development", {"operator/**"}),
    ):
        paths = set(artifacts[image]["custom"]["dependencies"]["paths"])
        assert {path for path in paths if path.endswith("/**")} == code
        named = {path.removesuffix("/**") for path in paths}
        assert copied["build"] | copied[stage] | copied[target] <= named | {"README.md"}, (
            "README.md is metadata, and edited often"
        )
        assert f"--target {target} " in artifacts[image]["custom"]["buildCommand"]
        assert {rule["src"].partition("/")[0] for rule in artifacts[image]["sync"]["manual"]} == {
            path.partition("/")[0] for path in code
        }
