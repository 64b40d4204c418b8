"""Look at the names of the code: `python -m tools.naming` counts, `--list` prints the functions of one word.

Functions say what they do, in two words or more, save where one word is the field's own (publish, commit, close).
tests/architecture refuses words that only this project used for things which have a name in the field.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COUNTED = ("caravan", "services", "cli", "operator")
"""The folders whose functions are counted."""
MAX_FUNCTION_LINES = 60
"""A migration's `upgrade` is a text of tables and not counted."""


@dataclass(frozen=True)
class Definition:
    """A name and where it is defined: `kind` is "function", "class", "argument", "variable" or "attribute"."""

    name: str
    kind: str
    file: Path
    line: int
    lines: int = 1


def list_definitions(folder: str) -> Iterator[Definition]:
    """Every name that the Python files of a folder define."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            yield from _list_defined_by(node, file)


def _list_defined_by(node: ast.AST, file: Path) -> Iterator[Definition]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield Definition(
                node.name, "function", file, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1
            )
        case ast.ClassDef():
            yield Definition(node.name, "class", file, node.lineno)
        case ast.arg():
            yield Definition(node.arg, "argument", file, node.lineno)
        case ast.Name(ctx=ast.Store()):
            yield Definition(node.id, "variable", file, node.lineno)
        case ast.Attribute(ctx=ast.Store()):
            yield Definition(node.attr, "attribute", file, node.lineno)


def is_one_word(name: str) -> bool:
    return "_" not in name.strip("_")


def main() -> None:
    functions = [
        definition
        for folder in COUNTED
        if (ROOT / folder).is_dir()
        for definition in list_definitions(folder)
        if definition.kind == "function" and not definition.name.startswith("__")
    ]
    short = [function for function in functions if is_one_word(function.name)]
    if "--list" in sys.argv:
        locations: dict[str, list[str]] = defaultdict(list)
        for function in short:
            locations[function.name].append(f"{function.file.relative_to(ROOT)}:{function.line}")
        for name, where in sorted(locations.items()):
            print(f"{name}: {', '.join(where)}")
    print(f"{len(short)} of {len(functions)} functions have a name of one word: {len(short) / len(functions):.1%}")
    for function in functions:
        if function.lines > MAX_FUNCTION_LINES and "migrations" not in function.file.parts:
            print(f"{function.file.relative_to(ROOT)}:{function.line}: {function.name} has {function.lines} lines")


if __name__ == "__main__":
    main()
