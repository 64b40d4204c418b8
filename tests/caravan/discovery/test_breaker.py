"""The circuit breaker on a clock of the test's own."""

from caravan.discovery import Breaker, RetryBudget


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_failures_in_a_row_answers_at_once_then_probes_and_closes() -> None:
    time, states = Time(), list[str]()
    breaker = Breaker(time, on_change=states.append)
    for _ in range(5):
        assert breaker.allow_call()
        breaker.record_failure()
    assert not breaker.allow_call()
    time.now += 5
    for _ in range(3):
        assert breaker.allow_call()
    assert not breaker.allow_call(), "no more than the probes"
    for _ in range(3):
        breaker.record_success()
    assert breaker.allow_call()
    assert states == ["open", "half-open", "closed"]


def test_a_failing_probe_opens_it_again() -> None:
    time = Time()
    breaker = Breaker(time)
    for _ in range(5):
        breaker.allow_call()
        breaker.record_failure()
    time.now += 5
    assert breaker.allow_call()
    breaker.record_failure()
    assert not breaker.allow_call()


def test_half_of_enough_calls_opens_it_and_old_failures_are_forgotten() -> None:
    time = Time()
    breaker = Breaker(time, consecutive=1000)
    for number in range(20):
        breaker.allow_call()
        (breaker.record_failure if number % 2 else breaker.record_success)()
    assert breaker.state == "open"
    forgetful = Breaker(time, consecutive=1000)
    for _ in range(19):
        forgetful.allow_call()
        forgetful.record_failure()
    time.now += 60
    forgetful.allow_call()
    forgetful.record_failure()
    assert forgetful.state == "closed"


def test_it_says_why_it_opened_and_how_long_nobody_is_asked() -> None:
    time = Time()
    breaker = Breaker(time, consecutive=1000)
    assert (breaker.cause, breaker.seconds_until_probe) == ("", 0.0)
    for number in range(20):
        breaker.allow_call()
        (breaker.record_failure if number % 2 else breaker.record_success)()
    assert breaker.cause == "10 of 20 calls within 10 s failed"
    time.now += 2
    assert breaker.seconds_until_probe == 3
    time.now += 3
    assert breaker.allow_call() and breaker.seconds_until_probe == 0
    breaker.record_failure()
    assert breaker.cause == "a call that was let through to try it failed"


def test_retries_add_at_most_a_fifth_to_the_load() -> None:
    budget = RetryBudget()
    retried = 0
    for _ in range(1000):
        budget.record_call()
        retried += budget.try_spend()
    assert retried <= 1000 * 0.2 + 3
