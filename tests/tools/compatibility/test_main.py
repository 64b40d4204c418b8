"""`make compatibility` refuses a break by its name, and lets CHANGELOG.md allow it by that name."""

import shutil
import time
from pathlib import Path

import orjson
import pytest

from tools.compatibility import __main__ as compatibility
from tools.compatibility.breaks import list_allowed_names

ROOT = Path(__file__).parents[3]


def test_todays_documents_break_nothing_but_what_the_changelog_names() -> None:
    began = time.process_time()
    broken = {each.name for each in compatibility.find_breaks(ROOT / "docs")}
    assert broken <= list_allowed_names((ROOT / "CHANGELOG.md").read_text()), "run `make compatibility`"
    assert time.process_time() - began < 5, "it is part of `make check`"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release of today's documents, and a change after it that removes a metric."""
    monkeypatch.setattr("sys.argv", ["compatibility"])
    for name in compatibility.DOCUMENTS:
        copy = shutil.copytree if (ROOT / "docs" / name).is_dir() else shutil.copyfile
        (tmp_path / "docs").mkdir(exist_ok=True)
        copy(ROOT / "docs" / name, tmp_path / "docs" / name)
    compatibility.renew_baseline(tmp_path / "docs")
    metrics = orjson.loads((tmp_path / "docs" / "metrics.json").read_bytes())
    del metrics["caravan_consumer_lag"]
    (tmp_path / "docs" / "metrics.json").write_bytes(orjson.dumps(metrics))
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0, unreleased\n\n### Changes\n\n- More.\n")
    return tmp_path


def test_a_break_is_refused_with_the_line_that_would_allow_it(tree: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        compatibility.main(tree)
    assert "- `metric-removed caravan_consumer_lag`: <what a client does now>" in str(refused.value)
    assert "alerts on it fall silent" in str(refused.value)


def test_a_line_in_the_changelog_allows_it(tree: Path) -> None:
    line = "- `metric-removed caravan_consumer_lag`: use `caravan_lag`."
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n## 0.2.0\n\n### Breaking\n\n{line}\n\n### Changes\n\n- More.\n")
    compatibility.main(tree)


@pytest.mark.parametrize(
    "text",
    [
        "## 0.2.0\n\n- `metric-removed caravan_consumer_lag`: use another.\n",
        "## 0.2.0\n\n### Breaking\n\n- `metric-removed caravan_consumer_lag`:\n",
        "## 0.2.0\n\n### Breaking\n\n- `metric-removed caravan_consumer`: use another.\n",
        "## 0.2.0\n\n### Breaking\n\n### Changes\n\n- `metric-removed caravan_consumer_lag`: use another.\n",
        "## 0.2.0\n\n- More.\n\n## 0.1.0\n\n### Breaking\n\n- `metric-removed caravan_consumer_lag`: use another.\n",
    ],
    ids=["no heading", "no words", "another name", "another heading", "an older version"],
)
def test_no_other_line_does(tree: Path, text: str) -> None:
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n{text}")
    with pytest.raises(SystemExit):
        compatibility.main(tree)


def test_a_release_renews_the_baseline(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["compatibility", "--renew"])
    compatibility.main(tree)
    monkeypatch.setattr("sys.argv", ["compatibility"])
    compatibility.main(tree)
