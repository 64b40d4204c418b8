"""Finds the SQL of the services and the kernel: texts in their source, and the declared statements of their modules.

A text is found where it stands, in a constant or in a call, and evaluated with the names of its module. One that is
put together from local variables can't be: it is found without its text.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from caravan.database.query import Query, Upsert

ROOT = Path(__file__).parents[2]
_SQL = re.compile(
    r"\s*(WITH \w+|SELECT\b|INSERT INTO\b|UPDATE \w+|DELETE FROM\b|LISTEN\b|NOTIFY\b|COPY\b|LOCK\b|CREATE \w+)"
)
_MAY_HOLD = re.compile(r"SELECT|INSERT|UPDATE|DELETE|LISTEN|NOTIFY|COPY|CREATE|Query\(|Upsert\(")
_FOLDERS_OF_DDL = {"migrations", "read_migrations", "versions"}


@dataclass(frozen=True)
class FoundText:
    """`unit`: the function or the constant in which it stands. `shape`: the text with a gap for each variable."""

    module: str
    unit: str
    shape: str
    text: str | None

    @property
    def place(self) -> str:
        return f"{self.module}:{self.unit}"


def list_statement_modules(folder: str) -> list[str]:
    """The modules below a folder of the repository in which statements may stand; migrations are none of them."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not _FOLDERS_OF_DDL & set(path.relative_to(ROOT).parts) and _MAY_HOLD.search(path.read_text())
    ]


def find_texts(module_name: str) -> list[FoundText]:
    module = import_module(module_name)
    assert module.__file__
    return list(find_texts_in(module_name, Path(module.__file__).read_text(), module))


def find_texts_in(module_name: str, source: str, module: ModuleType) -> Iterator[FoundText]:
    for unit, node in _walk_units(ast.parse(source), "module"):
        shape = _read_shape(node)
        if shape is not None and _SQL.match(shape):
            yield FoundText(module_name, unit, shape, _evaluate(node, module))


def find_declared(module_name: str) -> dict[str, str]:
    """The texts of the declared statements that a module holds, by name."""
    values = vars(import_module(module_name)).items()
    return {name: value.text for name, value in values if isinstance(value, Query | Upsert)}


def _walk_units(node: ast.AST, unit: str) -> Iterator[tuple[str, ast.expr]]:
    """The outermost texts of a tree, each with the function or constant around it; docstrings are none."""
    for child in ast.iter_child_nodes(node):
        name = unit
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = child.name
        elif isinstance(child, ast.Assign | ast.AnnAssign) and unit == "module":
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            name = target.id if isinstance(target, ast.Name) else unit
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.expr) and _read_shape(child) is not None:
            yield name, child
        else:
            yield from _walk_units(child, name)


def _read_shape(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_read_shape(part) or " ... " for part in parts)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            shapes = [_read_shape(left), _read_shape(right)]
            return None if shapes == [None, None] else "".join(shape or " ... " for shape in shapes)
    return None


def _evaluate(node: ast.expr, module: ModuleType) -> str | None:
    try:
        # Our own source, as the module itself evaluates it.
        value = eval(compile(ast.Expression(node), "text", "eval"), vars(module))
    except (NameError, AttributeError, KeyError):
        return None
    return value if isinstance(value, str) else None
