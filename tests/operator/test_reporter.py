"""The reporter is the only writer of what passes leave behind."""

import ast
from pathlib import Path

import caravan_operator

PACKAGE = Path(caravan_operator.__file__).parent
PASS_METRICS = {
    "DRIFTS",
    "EXTERNAL_WRITES",
    "RECONCILES",
    "RECONCILE_ERRORS",
    "SNAPSHOTS",
    "SNAPSHOT_DELAY_SECONDS",
}
WRITING_METHODS = {"write_status", "post_event", "set_finalizer"}


def list_modules_using(names: set[str]) -> set[str]:
    """Modules that import one of these names, or call a method of such a name on something other than themselves."""
    modules: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
            called: set[str] = set()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                is_own_method = isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
                called = set() if is_own_method else {node.func.attr}
            if (imported | called) & names:
                modules.add(path.name)
    return modules


def test_statuses_events_and_finalizers_are_written_by_the_reporter_alone() -> None:
    assert list_modules_using(WRITING_METHODS) == {"reporter.py"}


def test_passes_are_counted_by_the_reporter_alone() -> None:
    assert list_modules_using(PASS_METRICS) == {"reporter.py"}
