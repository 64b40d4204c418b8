"""The pages of the journey name what exists."""

import re
from pathlib import Path

import pytest

JOURNEY = Path(__file__).parents[2] / "docs/journey"


def test_the_overview_has_a_row_and_a_page_for_each_step() -> None:
    rows = [
        line for line in (JOURNEY / "README.md").read_text().splitlines() if line.startswith("| ") and line[2].isdigit()
    ]
    linked = [row.partition("](")[2].partition("/README.md)")[0] for row in rows]
    assert linked == sorted(page.parent.name for page in JOURNEY.glob("step*/README.md"))
    assert [name[:5] for name in linked] == [f"step{number}" for number in range(1, 9)]


@pytest.mark.parametrize("page", sorted(JOURNEY.rglob("*.md")), ids=lambda page: page.parent.name)
def test_links_and_files_that_the_pages_name_exist(page: Path) -> None:
    text = page.read_text()
    targets = [part.partition(")")[0].partition("#")[0] for part in text.split("](")[1:]]
    assert targets and all((page.parent / target).exists() for target in targets), targets
    named = set(re.findall(r"(?:docs|tests)/journey/[\w/]+\.py", text))
    assert named or page.parent == JOURNEY
    assert all((JOURNEY.parents[1] / name).exists() for name in named), named
