"""Compares today's documents with those of the last release: `make compatibility`. `--renew` makes today's the
baseline, which is done with a release.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tools.compatibility import asyncapi, graph, metrics, openapi, problems, schemas, settings
from tools.compatibility.breaks import Break, describe_breaks, list_allowed_names

ROOT = Path(__file__).parents[2]
BASELINE = "baseline"


def read_text(path: Path) -> str:
    return path.read_text()


def read_json(path: Path) -> Any:
    return orjson.loads(path.read_bytes())


def read_folder(path: Path) -> dict[str, Any]:
    return {file.name: read_json(file) for file in path.glob("*.json")}


DOCUMENTS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Any], list[Break]]]] = {
    "openapi.json": (read_json, openapi.find_breaks),
    "schema.graphql": (read_text, graph.find_breaks),
    "asyncapi.json": (read_json, asyncapi.find_breaks),
    "settings.schema.json": (read_json, settings.find_breaks),
    "metrics.json": (read_json, metrics.find_breaks),
    "problems.json": (read_json, problems.find_breaks),
    "schemas": (read_folder, schemas.find_breaks),
}
"""How each document in `docs` is read, and compared with the one of the same name in `docs/baseline`."""


def find_breaks(docs: Path) -> list[Break]:
    """What today's documents break of the baseline's."""
    return [
        each
        for name, (read, compare) in DOCUMENTS.items()
        for each in compare(read(docs / BASELINE / name), read(docs / name))
    ]


def renew_baseline(docs: Path) -> None:
    shutil.rmtree(docs / BASELINE, ignore_errors=True)
    (docs / BASELINE).mkdir()
    for name in DOCUMENTS:
        copy = shutil.copytree if (docs / name).is_dir() else shutil.copyfile
        copy(docs / name, docs / BASELINE / name)


def main(root: Path = ROOT) -> None:
    if "--renew" in sys.argv[1:]:
        renew_baseline(root / "docs")
        return
    allowed = list_allowed_names((root / "CHANGELOG.md").read_text())
    broken = [each for each in find_breaks(root / "docs") if each.name not in allowed]
    if broken:
        sys.exit(describe_breaks(broken))


if __name__ == "__main__":
    main()
