"""Where metrics are declared, and that the list of them is whole."""

import ast
import importlib
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from tools.public_documents import list_metric_modules

ROOT = Path(__file__).parents[2]
KINDS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
FOLDERS = ("caravan", "services", "cli", "operator/caravan_operator")


def find_declarations() -> set[str]:
    """The modules that make a metric of prometheus_client's, by their names."""
    found = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            names = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client")
                for alias in node.names
                if alias.name in KINDS
            }
            if any(
                isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in names for n in ast.walk(tree)
            ):
                relative = path.relative_to((ROOT / folder).parent).with_suffix("")
                found.add(".".join(relative.parts))
    return found


def test_a_metric_is_declared_in_the_metrics_module_of_its_owner_and_nowhere_else() -> None:
    assert find_declarations() <= set(list_metric_modules())


def test_every_metric_has_a_name_of_its_own_and_says_what_it_is() -> None:
    seen: dict[str, str] = {}
    for module in list_metric_modules():
        for variable, metric in vars(importlib.import_module(module)).items():
            if isinstance(metric, MetricWrapperBase):
                (family,) = metric.describe()
                assert family.documentation, variable
                assert seen.setdefault(family.name, module) == module
    assert len(seen) > 80
