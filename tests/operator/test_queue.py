"""The queue: a resource is in it once, urgent ones go first, failures wait longer and longer."""

from caravan_operator.handlers.queue import FIRST_PAUSE, LONGEST_PAUSE, Lane, WorkQueue
from caravan_operator.resources.resource import Key
from hypothesis import given
from hypothesis import strategies as st

GROUP, OTHER = Key("KafkaConnection", "shop", "kafka"), Key("RabbitMQConnection", "shop", "rabbit")


def key(name: object) -> Key:
    return Key("KafkaTopic", "shop", str(name))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[WorkQueue, Clock]:
    clock = Clock()
    return WorkQueue(clock), clock


def test_urgent_lanes_go_first_and_groups_are_apart() -> None:
    found, _ = queue()
    for name, lane in (("swept", Lane.SWEEP), ("new", Lane.NEW), ("deleted", Lane.DELETE), ("changed", Lane.SPEC)):
        found.add(key(name), GROUP, lane)
    found.add(key("elsewhere"), OTHER, Lane.DELETE)
    assert [each.name for each in found.ready(GROUP, 10, 10)] == ["deleted", "changed", "new", "swept"]
    assert [each.name for each in found.ready(OTHER, 10, 10)] == ["elsewhere"]


def test_a_new_resource_does_not_wait_behind_a_sweep() -> None:
    found, _ = queue()
    for number in range(1000):
        found.add(key(number), GROUP, Lane.SWEEP)
    assert len(found.ready(GROUP, 100, 500)) == 500, "a sweep reads in big chunks"
    found.add(key("new"), GROUP, Lane.NEW)
    assert found.ready(GROUP, 100, 500)[0] == key("new")


def test_a_key_that_is_worked_on_comes_again_once() -> None:
    found, _ = queue()
    found.add(key(1), GROUP, Lane.NEW)
    taken = found.ready(GROUP, 10, 10)
    for _ in range(3):
        found.add(key(1), GROUP, Lane.SPEC)
    assert found.ready(GROUP, 10, 10) == []
    found.done(taken)
    assert found.ready(GROUP, 10, 10) == [key(1)]
    found.done(taken)
    assert found.ready(GROUP, 10, 10) == [] and found.idle()


def test_failures_wait_longer_and_a_changed_spec_does_not_wait() -> None:
    found, clock = queue()
    pauses = [found.retry(key(1), GROUP) for _ in range(12)]
    assert 0.7 * FIRST_PAUSE <= pauses[0] <= 1.3 * FIRST_PAUSE and 0.7 * LONGEST_PAUSE <= pauses[-1] <= 1.3 * LONGEST_PAUSE
    assert found.ready(GROUP, 10, 10) == []
    found.add(key(1), GROUP, Lane.SPEC)
    assert found.ready(GROUP, 10, 10) == [key(1)]
    found.done([key(1)])
    found.forget(key(1))
    assert found.retry(key(1), GROUP) <= 1.3 * FIRST_PAUSE
    clock.now += 2 * FIRST_PAUSE
    assert found.ready(GROUP, 10, 10) == [key(1)]


def test_a_resource_that_is_gone_is_not_worked_on() -> None:
    found, _ = queue()
    found.add(key(1), GROUP, Lane.NEW)
    found.discard(key(1))
    assert found.ready(GROUP, 10, 10) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Lane), st.sampled_from([0.0, 1.0, 5.0])), max_size=40), st.integers(1, 4))
def test_every_wish_is_fulfilled_once_and_none_is_lost(wishes: list[tuple[int, Lane, float]], limit: int) -> None:
    found, clock = queue()
    for number, lane, delay in wishes:
        found.add(key(number), GROUP, lane, delay)
    seen: list[Key] = []
    for _ in range(100):
        taken = found.ready(GROUP, limit, limit)
        seen += taken
        found.done(taken)
        clock.now += 1
    assert sorted(seen) == sorted({key(number) for number, _, _ in wishes})
