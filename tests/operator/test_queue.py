"""The queue: a resource is in it once, urgent ones go first, failures wait longer and longer."""

from caravan_operator.controller.queue import MAX_PAUSE, MIN_PAUSE, Priority, WorkQueue
from caravan_operator.resources.resource import Key
from hypothesis import given
from hypothesis import strategies as st

GROUP, OTHER = Key("KafkaConnection", "shop", "kafka"), Key("RabbitMQConnection", "shop", "rabbit")


def make_key(name: object) -> Key:
    return Key("KafkaTopic", "shop", str(name))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_queue() -> tuple[WorkQueue, Clock]:
    clock = Clock()
    return WorkQueue(clock), clock


def test_urgent_lanes_go_first_and_groups_are_apart() -> None:
    found, _ = make_queue()
    for name, priority in (
        ("swept", Priority.SWEEP),
        ("new", Priority.NEW),
        ("deleted", Priority.DELETE),
        ("changed", Priority.SPEC),
    ):
        found.add(make_key(name), GROUP, priority)
    found.add(make_key("elsewhere"), OTHER, Priority.DELETE)
    assert [each.name for each in found.take_due_keys(GROUP, 10, 10)] == ["deleted", "changed", "new", "swept"]
    assert [each.name for each in found.take_due_keys(OTHER, 10, 10)] == ["elsewhere"]


def test_a_new_resource_does_not_wait_behind_a_sweep() -> None:
    found, _ = make_queue()
    for number in range(1000):
        found.add(make_key(number), GROUP, Priority.SWEEP)
    assert len(found.take_due_keys(GROUP, 100, 500)) == 500, "a sweep reads in big chunks"
    found.add(make_key("new"), GROUP, Priority.NEW)
    assert found.take_due_keys(GROUP, 100, 500)[0] == make_key("new")


def test_a_key_that_is_worked_on_comes_again_once() -> None:
    found, _ = make_queue()
    found.add(make_key(1), GROUP, Priority.NEW)
    taken = found.take_due_keys(GROUP, 10, 10)
    for _ in range(3):
        found.add(make_key(1), GROUP, Priority.SPEC)
    assert found.take_due_keys(GROUP, 10, 10) == []
    found.mark_done(taken)
    assert found.take_due_keys(GROUP, 10, 10) == [make_key(1)]
    found.mark_done(taken)
    assert found.take_due_keys(GROUP, 10, 10) == []
    assert found.is_idle()


def test_failures_wait_longer_and_a_changed_spec_does_not_wait() -> None:
    found, clock = make_queue()
    pauses = [found.retry(make_key(1), GROUP) for _ in range(12)]
    assert 0.7 * MIN_PAUSE <= pauses[0] <= 1.3 * MIN_PAUSE
    assert 0.7 * MAX_PAUSE <= pauses[-1] <= 1.3 * MAX_PAUSE
    assert found.take_due_keys(GROUP, 10, 10) == []
    found.add(make_key(1), GROUP, Priority.SPEC)
    assert found.take_due_keys(GROUP, 10, 10) == [make_key(1)]
    found.mark_done([make_key(1)])
    found.reset_attempts(make_key(1))
    assert found.retry(make_key(1), GROUP) <= 1.3 * MIN_PAUSE
    clock.now += 2 * MIN_PAUSE
    assert found.take_due_keys(GROUP, 10, 10) == [make_key(1)]


def test_a_resource_that_is_gone_is_not_worked_on() -> None:
    found, _ = make_queue()
    found.add(make_key(1), GROUP, Priority.NEW)
    found.discard(make_key(1))
    assert found.take_due_keys(GROUP, 10, 10) == []


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Priority), st.sampled_from([0.0, 1.0, 5.0])), max_size=40),
    st.integers(1, 4),
)
def test_every_request_is_served_once_and_none_is_lost(requests: list[tuple[int, Priority, float]], limit: int) -> None:
    found, clock = make_queue()
    for number, priority, delay in requests:
        found.add(make_key(number), GROUP, priority, delay)
    seen: list[Key] = []
    for _ in range(100):
        taken = found.take_due_keys(GROUP, limit, limit)
        seen += taken
        found.mark_done(taken)
        clock.now += 1
    assert sorted(seen) == sorted({make_key(number) for number, _, _ in requests})
