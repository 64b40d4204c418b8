"""How long a failure waits."""

from caravan.backoff import BACKOFF_SECONDS, add_jitter, compute_backoff, compute_exponential_backoff


def test_each_failure_waits_longer_until_the_last_step() -> None:
    assert [compute_backoff(failures) for failures in range(1, 7)] == [*BACKOFF_SECONDS, 3.0, 3.0]


def test_each_retry_waits_twice_as_long_up_to_the_limit() -> None:
    assert [compute_exponential_backoff(retries, 0.5, 3.0) for retries in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert compute_exponential_backoff(10_000, 1.0, 60.0) == 60.0


def test_jitter_stays_between_a_half_and_one_and_a_half() -> None:
    waits = [add_jitter(10.0) for _ in range(1000)]
    assert 5.0 <= min(waits) < 7.0
    assert 13.0 < max(waits) <= 15.0
