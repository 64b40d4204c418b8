from caravan.backoff import BACKOFF_SECONDS, add_jitter, compute_backoff, compute_exponential_backoff


def test_a_loop_waits_longer_after_each_failure_up_to_a_limit() -> None:
    assert [compute_backoff(failures) for failures in range(1, 6)] == [*BACKOFF_SECONDS, BACKOFF_SECONDS[-1]]


def test_retries_double_up_to_a_limit() -> None:
    assert [compute_exponential_backoff(retries, 0.5, 3.0) for retries in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert compute_exponential_backoff(10_000, 0.5, 3.0) == 3.0


def test_jitter_keeps_the_mean() -> None:
    waits = [add_jitter(2.0) for _ in range(1000)]
    assert all(1.0 <= seconds <= 3.0 for seconds in waits)
    assert max(waits) - min(waits) > 1.0
