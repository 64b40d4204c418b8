"""Writes a new service that works: `make service NAME=loyalty`, from the files of tools/service_template.

The template is the service `loyalty`: it notes each registered user and tells them so. Its folder and its tests are
written under the new name, its name is added to the registry and to the values of the chart, and `make docs` writes
what is made from these. What the service is for takes the place of the example.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from keyword import iskeyword
from pathlib import Path

import yaml

from services.gateway.routing.trie import ROOT_OWNERS

ROOT = Path(__file__).parent.parent
TEMPLATE = Path(__file__).parent / "service_template"
TEMPLATE_NAME = "loyalty"
REGISTRY = "services/registry.py"
VALUES = "charts/caravan/values.yaml"
RULE = (
    "a service is named by 2 to 30 lower-case letters and digits, a letter first:"
    " it is a Python package, a host, a database and the beginning of its queues' names"
)
RESERVED = frozenset({"all", "bus", "caravan", "operator", "registry", "shop", "test"})
"""What commands, databases, users of the brokers and modules are called."""


def main() -> None:
    match sys.argv[1:]:
        case [name]:
            if refusal := refuse_name(ROOT, name):
                sys.exit(f"{name!r} can't be the name of a service: {refusal}")
            write_service(ROOT, name)
        case _:
            sys.exit("make service NAME=<name>")


def refuse_name(root: Path, name: str) -> str:
    """The rule that a name breaks; empty: it is free."""
    if not re.fullmatch(r"[a-z][a-z0-9]{1,29}", name):
        return RULE
    if iskeyword(name):
        return "it is a keyword of Python"
    if (root / "services" / name).exists():
        return f"services/{name} exists"
    if name in RESERVED or name in yaml.safe_load((root / "compose.yaml").read_text())["services"]:
        return "something else has it: a command, a container, a database or a user of the brokers"
    if name in ROOT_OWNERS:
        return f"the paths /v1/{name} belong to {' and '.join(sorted(ROOT_OWNERS[name]))}"
    return ""


def write_service(root: Path, name: str) -> None:
    for path, text in render_service(name):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        print(f"wrote {path}")
    insert_before(root / REGISTRY, '    "gateway",\n', f'    "{name}",\n')
    insert_before(root / VALUES, "\n# One of the two, or none.", f"  {name}: {{}}\n")
    print(f"added {name} to {REGISTRY} and {VALUES}")
    folders = [f"services/{name}", f"tests/services/{name}"]
    for arguments in (
        ["ruff", "check", "--quiet", "--fix-only", *folders],
        ["ruff", "format", "--quiet", *folders],
        ["tools.generate_docs"],
    ):
        subprocess.run([sys.executable, "-m", *arguments], cwd=root, check=True)


def render_service(name: str) -> Iterator[tuple[str, str]]:
    """Each file's path and text."""
    for path in sorted(TEMPLATE.rglob("*.txt")):
        folder, _, rest = path.relative_to(TEMPLATE).as_posix().removesuffix(".txt").partition("/")
        text = path.read_text()
        for spell in (str.lower, str.title, str.upper):
            text = text.replace(spell(TEMPLATE_NAME), spell(name))
        yield f"{'services' if folder == 'service' else 'tests/services'}/{name}/{rest}", text


def insert_before(path: Path, anchor: str, text: str) -> None:
    before, found, after = path.read_text().partition(anchor)
    assert found, f"{path} has no line {anchor.strip()!r} any more"
    path.write_text(before + text + found + after)


if __name__ == "__main__":
    main()
