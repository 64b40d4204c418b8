"""Messages that wait to be tried again keep the order of their keys."""

from caravan.bus import IncomingMessage
from caravan.bus.retry_buffer import REST_SECONDS, RetryBuffer


def make_message(key: str, number: int) -> IncomingMessage:
    return IncomingMessage(key=key, body=b"%d" % number, attempt=1)


def test_a_message_waits_behind_the_earlier_ones_of_its_key_and_no_others() -> None:
    buffer = RetryBuffer()
    first, second, other = make_message("a", 1), make_message("a", 2), make_message("b", 3)
    assert not buffer.enqueue_behind(first)
    buffer.requeue("a", [first], due_at=10.0)
    assert buffer.enqueue_behind(second)
    assert not buffer.enqueue_behind(other)
    assert (len(buffer), buffer.peek_first("a"), buffer.peek_first("b")) == (2, first, None)


def test_what_is_due_is_taken_in_order_and_what_is_put_back_stays_first() -> None:
    buffer = RetryBuffer()
    first, second, third = (make_message("a", number) for number in range(3))
    buffer.requeue("a", [first], due_at=10.0)
    buffer.enqueue_behind(second)
    buffer.enqueue_behind(third)
    assert buffer.pop_due(9.0, 10) == []
    assert buffer.pop_due(10.0, 2) == [first, second]
    buffer.requeue("a", [first, second], due_at=20.0)
    assert buffer.pop_due(20.0, 10) == [first, second, third]
    assert len(buffer) == 0


def test_it_says_how_long_to_rest() -> None:
    buffer = RetryBuffer()
    assert buffer.seconds_until_due(0.0) == REST_SECONDS
    buffer.requeue("a", [make_message("a", 1)], due_at=3.0)
    assert [buffer.seconds_until_due(now) for now in (0.0, 2.0, 5.0)] == [3.0, 1.0, 0.0]
    buffer.clear()
    assert buffer.seconds_until_due(0.0) == REST_SECONDS


def test_an_attempt_only_rises() -> None:
    buffer = RetryBuffer()
    buffer.requeue("a", [make_message("a", 1)], due_at=0.0)
    for attempt, expected in ((3, 3), (2, 3)):
        buffer.raise_attempt("a", attempt)
        message = buffer.peek_first("a")
        assert message is not None
        assert message.attempt == expected
