"""One answer of what several processes said."""

from collections.abc import Sequence
from datetime import UTC, datetime

from caravan.errors import ServiceUnavailable
from caravan.status import BreakerStatus, Flow, OutboxStatus, RequestFlow, ServiceStatus, SubscriptionFlow
from services.gateway.system.merge import ProcessAnswers, merge_answers
from services.gateway.system.view import SystemStatus
from services.inventory.messages import STOCK_CHANGED

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def tell(
    instance: str, rate: float, waiting: int, state: str = "closed", groups: Sequence[str | None] = ("catalog",)
) -> ServiceStatus:
    flow = Flow(total=rate * 10, per_second=rate)
    subscriptions = [
        SubscriptionFlow(
            group=group,
            channel=STOCK_CHANGED.name,
            handled=flow,
            duplicates=Flow(),
            retries=Flow(),
            dead_letters=Flow(),
            waiting=waiting,
            consumers=None,
        )
        for group in groups
    ]
    return ServiceStatus(
        service="catalog",
        instance=instance,
        version="1",
        started_at=NOW,
        not_ready=[],
        warnings=[],
        window_seconds=10,
        requests=RequestFlow(answered=flow, failed=Flow(per_second=0), mean_seconds=rate / 100),
        outbox=OutboxStatus(pending=waiting, oldest_seconds=1, refused=0),
        published=[],
        subscriptions=subscriptions,
        breakers=[BreakerStatus(target="orders", state=state, cause=None, until=None)],
        cache=None,
        projections=["facts"],
    )


def merge(answers: ProcessAnswers) -> SystemStatus:
    return merge_answers({"catalog": answers}, [STOCK_CHANGED], [], [], None, [], NOW)


def test_rates_are_added_and_what_all_measure_counts_once() -> None:
    status = merge({"http://a": tell("a", 1, 5), "http://b": tell("b", 3, 7, "open")})
    (catalog,), (channel,) = status.services, status.channels
    assert (catalog.handled.per_second, catalog.waiting, catalog.state) == (4, 7, "up")
    assert catalog.outbox is not None and catalog.outbox.pending == 7
    assert catalog.requests.mean_seconds == 0.025, "(1 · 10 ms + 3 · 30 ms) / 4"
    assert (channel.subscriptions[0].handled.per_second, channel.subscriptions[0].waiting) == (4, 7)
    assert [breaker.state for breaker in status.breakers] == ["open"], "the worst of them"


def test_consumer_groups_of_a_service_are_told_apart_and_what_waits_for_each_counts() -> None:
    groups = ("catalog", "reporting")
    status = merge({"http://a": tell("a", 1, 5, groups=groups), "http://b": tell("b", 3, 7, groups=groups)})
    (catalog,), (channel,) = status.services, status.channels
    readers = [(each.service, each.group, each.waiting) for each in channel.subscriptions]
    assert readers == [("catalog", "catalog", 7), ("catalog", "reporting", 7)]
    assert (catalog.handled.per_second, catalog.waiting) == (8, 14)


def test_a_process_that_was_not_updated_yet_names_no_group() -> None:
    status = merge({"http://a": tell("a", 1, 5, groups=[None]), "http://b": tell("b", 3, 7)})
    (channel,) = status.channels
    assert [(each.group, each.waiting) for each in channel.subscriptions] == [("catalog", 7)]


def test_a_read_model_stands_once_whoever_told_of_it() -> None:
    status = merge({"http://a": tell("a", 1, 5), "http://b": tell("b", 3, 7)})
    assert [(each.name, each.service, each.rebuild) for each in status.projections] == [("facts", "catalog", None)]


def test_a_process_with_two_names_counts_once() -> None:
    status = merge({"": tell("a", 1, 5), "http://a": tell("a", 1, 5)})
    assert len(status.services[0].instances) == 1 and status.services[0].handled.per_second == 1


def test_who_does_not_answer_is_named_and_takes_nothing_from_the_others() -> None:
    status = merge({"http://a": tell("a", 1, 5), "http://b": ServiceUnavailable("it can't be reached")})
    assert (status.services[0].state, status.services[0].reasons) == ("degraded", ["it can't be reached"])
    assert [(part.part, part.url) for part in status.partial] == [("catalog", "http://b")]
    assert merge({}).services[0].state == "down"
