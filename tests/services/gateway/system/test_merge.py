"""One answer of what several processes said."""

from datetime import UTC, datetime

from caravan.errors import ServiceUnavailable
from caravan.status import BreakerStatus, Flow, OutboxStatus, RequestFlow, ServiceStatus, SubscriptionFlow
from services.gateway.system.merge import ProcessAnswers, merge_answers
from services.gateway.system.view import SystemStatus
from services.inventory.messages import STOCK_CHANGED

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def tell(instance: str, rate: float, waiting: int, state: str = "closed") -> ServiceStatus:
    flow = Flow(total=rate * 10, per_second=rate)
    subscription = SubscriptionFlow(
        channel=STOCK_CHANGED.name,
        handled=flow,
        duplicates=Flow(),
        retries=Flow(),
        dead_letters=Flow(),
        waiting=waiting,
        consumers=None,
    )
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
        subscriptions=[subscription],
        breakers=[BreakerStatus(target="orders", state=state, cause=None, until=None)],
        cache=None,
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


def test_a_process_with_two_names_counts_once() -> None:
    status = merge({"": tell("a", 1, 5), "http://a": tell("a", 1, 5)})
    assert len(status.services[0].instances) == 1 and status.services[0].handled.per_second == 1


def test_who_does_not_answer_is_named_and_takes_nothing_from_the_others() -> None:
    status = merge({"http://a": tell("a", 1, 5), "http://b": ServiceUnavailable("it can't be reached")})
    assert (status.services[0].state, status.services[0].reasons) == ("degraded", ["it can't be reached"])
    assert [(part.part, part.url) for part in status.partial] == [("catalog", "http://b")]
    assert merge({}).services[0].state == "down"
