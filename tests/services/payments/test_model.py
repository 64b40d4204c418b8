"""The laws of a payment, whatever the provider answers and whenever a refund is asked for."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from caravan.clock import new_id
from services.payments.model import CaptureResult, Payment, RetrySchedule

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULE = RetrySchedule((1.0, 3.0, 10.0, 30.0), 0.5)
MOVES = st.lists(st.sampled_from(["captured", "declined", "failed", "unknown", "old", "refund"]), max_size=20)


def capturing() -> Payment:
    return Payment(
        order_id=new_id(), status="capturing", amount=100, currency="GBP", token="t", attempt=1, reason="",
        refund_asked=False,
        due_at=NOW, traceparent=None, actor=None, cause=None,
    )  # fmt: skip


@given(MOVES)
def test_an_attempt_rises_only_after_a_definite_failure_and_money_moves_at_most_once(moves: list[str]) -> None:
    payment = capturing()
    captures = 0
    for move in moves:
        before = (payment.attempt, payment.key)
        if payment.status == "retrying":  # what the sweeper does when it is due
            payment.attempt, payment.status = payment.attempt + 1, "capturing"
            before = (payment.attempt, payment.key)
        if move == "refund":
            payment.request_refund()
        elif move == "old":
            assert not payment.apply_result(payment.attempt - 1, CaptureResult("captured"), SCHEDULE, NOW)
        else:
            taken = payment.apply_result(payment.attempt, CaptureResult(move), SCHEDULE, NOW)  # type: ignore[arg-type]
            captures += taken and move == "captured"
        assert (payment.attempt, payment.key) == before
        assert (payment.due_at is not None) == (payment.status in ("capturing", "retrying"))
    assert captures <= 1
    assert payment.attempt <= 5
    assert (payment.status in ("completed", "refunding", "refunded")) == (captures == 1)
    if payment.refund_asked:
        assert payment.status not in ("retrying", "completed")


def test_a_flaky_card_is_paid_within_a_few_seconds_by_default() -> None:
    first, second = SCHEDULE.compute_next_attempt(1, NOW), SCHEDULE.compute_next_attempt(2, NOW)
    assert first
    assert second
    assert (first - NOW).total_seconds() + (second - NOW).total_seconds() <= 4
    assert SCHEDULE.compute_next_attempt(5, NOW) is None


def test_questions_about_a_lost_answer_come_less_and_less_often() -> None:
    waits = [(SCHEDULE.compute_next_call(calls, NOW) - NOW).total_seconds() for calls in (1, 2, 3, 9, 1000)]
    assert waits == [0.5, 1.0, 2.0, 60.0, 60.0]
