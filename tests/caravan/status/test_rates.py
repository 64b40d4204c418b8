"""How fast counters rise, measured when somebody asks."""

from caravan.status.rates import MOST_SECONDS, RateSampler
from caravan.telemetry import metrics


class Ticks:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_rate_is_between_two_questions() -> None:
    now = Ticks()
    sampler = RateSampler(now)
    counter = metrics.MESSAGES_PUBLISHED.labels("rates", "pets")
    counter.inc(7)
    first = sampler.read_rates()
    assert (first.window_seconds, first.get_flow(metrics.MESSAGES_PUBLISHED, "rates", "pets").per_second) == (
        None,
        None,
    )
    assert first.get_flow(metrics.MESSAGES_PUBLISHED, "rates", "pets").total == 7
    now.seconds += 4
    counter.inc(10)
    flow = sampler.read_rates().get_flow(metrics.MESSAGES_PUBLISHED, "rates", "pets")
    assert (flow.total, flow.per_second) == (17, 2.5)


def test_what_was_read_long_ago_says_nothing_about_now() -> None:
    now = Ticks()
    sampler = RateSampler(now)
    sampler.read_rates()
    now.seconds += MOST_SECONDS + 1
    assert sampler.read_rates().window_seconds is None


def test_who_asks_all_the_time_gets_rates_over_ten_seconds_and_keeps_few_samples() -> None:
    now = Ticks()
    sampler = RateSampler(now)
    for _ in range(1000):
        window = sampler.read_rates().window_seconds
        now.seconds += 0.1
    assert window is not None and 10 <= window < 11
    assert len(sampler._samples) <= 22


def test_requests_are_counted_by_service_and_failure_with_their_mean_time() -> None:
    now = Ticks()
    sampler = RateSampler(now)
    sampler.read_rates()
    for status, seconds in (("200", 0.1), ("404", 0.2), ("503", 0.3)):
        metrics.HTTP_DURATION.labels("timed", "GET", "/", status).observe(seconds)
    now.seconds += 2
    rates = sampler.read_rates()
    assert rates.get_request_flow("timed", has_failed=False).per_second == 1
    assert rates.get_request_flow("timed", has_failed=True).per_second == 0.5
    assert rates.compute_mean_seconds("timed") == 0.2
    assert rates.compute_mean_seconds("silent") is None
