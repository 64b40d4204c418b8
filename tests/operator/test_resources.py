"""The CRDs: generated files, bounds on everything, structural schemas."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from caravan_operator.resources import KINDS, rbac
from caravan_operator.resources.__main__ import CHART, render_files

from tests.operator.schemas import walk_schemas


@pytest.mark.parametrize("path", render_files())
def test_the_chart_holds_what_the_resources_say(path: str) -> None:
    file = Path(CHART, path)
    assert file.exists(), f"missing: run `python -m caravan_operator.resources`, which writes {file}"
    assert file.read_text() == render_files()[path], (
        "edit operator/caravan_operator/resources and run `python -m caravan_operator.resources`"
    )


def test_no_generated_crd_is_left_over() -> None:
    assert {f"crds/{each.name}" for each in Path(CHART, "crds").iterdir()} == {
        path for path in render_files() if path.startswith("crds/")
    }


EVERY = [
    pair
    for kind in KINDS.values()
    for pair in walk_schemas(kind.build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind.name)
]


@pytest.mark.parametrize(("path", "schema"), EVERY, ids=[path for path, _ in EVERY])
def test_everything_is_bounded_and_described(path: str, schema: dict[str, Any]) -> None:
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",), "integer": ("maximum",)}.get(
        schema.get("type", ""), ()
    )
    if "additionalProperties" in schema:
        bounds = ("maxProperties",)
    assert not bounds or any(bound in schema for bound in bounds)
    assert schema.get("description"), "kubectl explain shows nothing"
    assert not any(key.startswith("x-kubernetes-preserve") for key in schema)


def test_each_rule_has_a_message() -> None:
    for path, schema in EVERY:
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule["message"], path


def test_names_are_short_and_unique() -> None:
    assert len({kind.short_name for kind in KINDS.values()}) == len(KINDS)
    assert all(
        len(kind.short_name) <= 9 and kind.build_crd()["spec"]["names"]["categories"] == ["caravan"]
        for kind in KINDS.values()
    )


def test_rights_are_minimal() -> None:
    rules = [rule for part in rbac.build_document().values() for rule in part]
    assert not any("*" in value for rule in rules for values in rule.values() for value in values)
    for rule in rules:
        if any(group.endswith("caravan.dev") for group in rule["apiGroups"]):
            assert not {"create", "delete", "deletecollection", "update"} & set(rule["verbs"])
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["get"]


def test_the_files_are_plain_yaml() -> None:
    for content in render_files().values():
        assert "&id" not in content
        assert yaml.safe_load(content)
