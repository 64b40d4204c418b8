"""docs/explanation/dependencies.md has a row for each direct dependency, and each row is of one."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/dependencies.md").read_text()
ROWS = {name: cells.split(" | ") for name, cells in re.findall(r"^\| `([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)}

WITHOUT_LICENCE = {"axe-playwright-python", "promql-parser", "zxcvbn-rs-py"}
"""Their packages' metadata say nothing; their repositories do."""


def list_direct_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(entry for extra in project["optional-dependencies"].values() for entry in extra),
    ]
    return {re.split(r"[\s\[<>=!;~]", entry, maxsplit=1)[0] for entry in declared}


def test_each_direct_dependency_has_its_row_and_each_row_its_dependency() -> None:
    dependencies = list_direct_dependencies()
    assert not dependencies - ROWS.keys(), "write what they do for us into docs/explanation/dependencies.md"
    assert not ROWS.keys() - dependencies, "no dependency of pyproject.toml any more: remove their rows"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_row_says_what_it_does_and_its_licence(name: str) -> None:
    does, keeps, replacement, licence = ROWS[name]
    assert all(len(cell) > 1 or cell == "–" for cell in (keeps, replacement))
    assert len(does) > 5
    declared = metadata(name).json
    if expression := declared.get("license_expression"):
        assert licence.startswith(expression), f"{name}: its package says {expression}"
    elif name not in WITHOUT_LICENCE:
        # Before there were expressions: a free text, and a classifier that knows no versions.
        older = [declared.get("license", ""), *(line for line in declared["classifier"] if "License" in line)]
        family = re.split("[-, ]", licence)[0]
        assert any(family in text for text in older), f"{name}: its package says {older}"
