"""What the workers' gauges say of the resources: the words that rules and dashboards ask for."""

import re
from collections.abc import Sequence
from pathlib import Path

from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.queue import WorkQueue
from caravan_operator.controller.workers import Workers
from caravan_operator.resources.resource import Key
from caravan_operator.status.metrics import DRIFTS, RESOURCES, initialize_counters

from tests.operator.resources import make_resource

OBSERVABILITY = Path(__file__).parents[2] / "observability"


async def do_nothing(_: Key, __: Sequence[Key]) -> None: ...


def test_resources_are_counted_by_whether_they_are_ready() -> None:
    cache = ResourceCache()
    for name, status in (("a", "True"), ("b", "False"), ("c", "Unknown"), ("d", "")):
        conditions = [{"type": "Ready", "status": status}] if status else []
        cache.put(make_resource(name=name, status={"conditions": conditions}))
    Workers(cache, WorkQueue(), do_nothing, sweep_seconds=60).update_metrics()
    counted = {sample.labels["ready"]: sample.value for metric in RESOURCES.collect() for sample in metric.samples}
    assert counted == {"true": 1, "false": 1, "unknown": 2}
    asked = {
        value
        for path in (*OBSERVABILITY.glob("prometheus/rules/*.yaml"), *OBSERVABILITY.glob("dashboards/*.json"))
        for value in re.findall(r'caravan_operator_resources\{[^}]*ready!?=\\?["\'](\w+)', path.read_text())
    }
    assert asked and asked <= counted.keys()


def test_counters_that_rules_ask_begin_at_zero() -> None:
    initialize_counters(["KafkaTopic"])
    begun = {tuple(sample.labels.values()) for metric in DRIFTS.collect() for sample in metric.samples}
    assert begun >= {("KafkaTopic", "corrected"), ("KafkaTopic", "reported")}
