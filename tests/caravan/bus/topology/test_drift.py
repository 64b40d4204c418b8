"""What differs between declared and observed topology."""

from typing import Any

from caravan.bus.topology import KafkaTopic, ObjectRef, RabbitQueue
from caravan.bus.topology.drift import DriftKind, find_differences


class Exchange:
    def __init__(self, **properties: Any) -> None:
        self.properties = properties


def test_what_is_missing_different_or_foreign_is_found_in_the_order_of_the_declarations() -> None:
    missing, different, same, foreign = (ObjectRef("exchange", name) for name in ("new", "changed", "same", "old"))
    declared: Any = {missing: Exchange(), different: Exchange(durable=True), same: Exchange(durable=True)}
    observed: Any = {different: Exchange(durable=False, extra=1), same: Exchange(durable=True), foreign: Exchange()}
    found = find_differences(declared, observed)
    assert [(each.kind, each.object_ref) for each in found] == [
        (DriftKind.MISSING, missing),
        (DriftKind.DIFFERENT, different),
        (DriftKind.FOREIGN, foreign),
    ]
    assert found[1].properties == {"durable": (False, True), "extra": (1, None)}
    assert str(found[1]) == "different: exchange changed: durable is False, declared True, extra is 1, declared absent"


def test_an_argument_that_nobody_declared_is_drift_but_a_setting_of_a_topic_is_not() -> None:
    queue = RabbitQueue("q", {})
    beaten = RabbitQueue("q", {}, {"x-queue-type": "quorum", "x-message-ttl": 1000})
    assert [str(found) for found in find_differences({queue.object_ref: queue}, {queue.object_ref: beaten})] == [
        "different: queue q: x-message-ttl is 1000, declared absent"
    ]
    topic = KafkaTopic("t", 1, 1, {"retention.ms": "1"})
    observed = KafkaTopic("t", 1, 1, {"retention.ms": "1", "segment.bytes": "1000"})
    assert find_differences({topic.object_ref: topic}, {topic.object_ref: observed}) == []
