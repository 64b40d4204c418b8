"""An order has one end, and everybody tells the same one: the rules of orders, processing and payments together, under
every interleaving of cancellations,
declines, further attempts, calls without an answer, and messages that come late and twice."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from caravan.clock import new_id
from caravan.messages import Event
from services.orders import model as orders
from services.orders.messages import OrderCancellationRefused, OrderCancelled
from services.payments.model import CaptureResult, RetrySchedule
from services.processing.model import Saga
from tests.services.processing.order_services import NOW, PRICE, OrderServices

SCHEDULE = RetrySchedule((1.0, 3.0), 0.5)

ENDS: dict[type[Event], str] = {
    orders.InventoryRejected: "rejected",
    orders.PaymentFailed: "payment_failed",
    orders.OrderDelivered: "delivered",
}


class OneOrder(OrderServices, RuleBasedStateMachine):
    """What the outside world does to an order, and what must hold meanwhile and at its end."""

    @initialize(steps=st.integers(0, 10), state=st.sampled_from(["captured", "declined", "failed", "unknown"]))
    def undisturbed(self, steps: int, state: Any) -> None:
        """Some way along the straight road, so that what follows happens at each of its stages."""
        for _ in range(steps):
            if self.calling:
                self.provider_answers(state, charged=False)
            else:
                self.deliver_first()

    def deliver_first(self) -> bool:
        waiting = [name for name, messages in self.channels.items() if messages]
        if waiting:
            self.handle(waiting[0], self.channels[waiting[0]].popleft())
        return bool(waiting)

    @rule()
    def cancel(self) -> None:
        try:
            events = self.order.request_cancellation("changed my mind")
        except orders.IllegalMove:
            return
        self.record(events)
        if events:
            self.accepted += 1
            self.send("cancel-order", "cancel", "changed my mind")

    @precondition(lambda self: self.calling)
    @rule(state=st.sampled_from(["captured", "captured", "declined", "failed", "unknown"]), charged=st.booleans())
    def provider_answers(self, state: Any, charged: bool) -> None:
        payment = self.payment
        assert payment is not None
        self.calling = False
        if self.charges and state != "unknown":
            state = "captured"  # a key that is known is answered with what was stored for it
        if state == "captured" or (state == "unknown" and charged):
            self.charges = 1
        assert payment.apply_result(payment.attempt, CaptureResult(state, "card_declined"), SCHEDULE, NOW)
        self.publish_payment(payment)
        if payment.status == "voided":
            self.send("payment-refunded", "refunded", 0)

    @precondition(
        lambda self: self.payment is not None and not self.calling and self.payment.status in ("capturing", "retrying")
    )
    @rule()
    def try_again(self) -> None:
        """The same attempt when it has no answer, else the next one."""
        assert self.payment is not None
        if self.payment.status == "retrying":
            self.payment.attempt, self.payment.status = self.payment.attempt + 1, "capturing"
        self.calling = True

    @precondition(lambda self: self.payment is not None and self.payment.status == "refunding")
    @rule()
    def refund(self) -> None:
        assert self.payment is not None
        self.refunds += 1
        self.payment.status = "refunded"
        self.send("payment-refunded", "refunded", PRICE.amount)

    @precondition(lambda self: self.stock == "held" and self.parcel == "none" and "completed" not in self.outcomes)
    @rule()
    def reservation_expires(self) -> None:
        self.stock = "released"
        self.send("inventory-released", "stock_released", "expired")

    @precondition(lambda self: self.parcel in ("requested", "shipped"))
    @rule()
    def carry(self) -> None:
        if self.parcel == "requested":
            self.parcel, self.stock = "shipped", "gone"
            self.send("order-shipped", "sent", None)
        else:
            self.parcel = "delivered"
            self.send("order-delivered", "delivered", None)

    @rule()
    def resend_overdue(self) -> None:
        if not self.saga.is_closed:
            self.take_steps(self.saga.take_next_steps() or self.saga.list_outstanding_steps())

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, 4))):
            waiting = sorted(name for name, messages in self.channels.items() if messages)
            if not waiting:
                return
            channel = data.draw(st.sampled_from(waiting))
            message = self.channels[channel].popleft()
            self.handled.append((channel, message))
            self.handle(channel, message)

    @precondition(lambda self: self.handled)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """A fact or a command that has been sent anew: only what is decided once is known by its id."""
        channel, message = data.draw(st.sampled_from(self.handled))
        if channel not in ("cancel-order", "order-undone", "order-processed"):
            self.handle(channel, message)

    @invariant()
    def one_end_at_most(self) -> None:
        ends = [type(event).__name__ for event in self.stream if isinstance(event, (OrderCancelled, *ENDS))]
        assert len(ends) <= 1, f"two ends of one order: {ends}"
        assert len(self.outcomes) <= 1, f"order-processed is published once: {self.outcomes}"
        assert self.charges <= 1
        assert self.refunds <= self.charges

    def teardown(self) -> None:
        """Everything arrives; what was not answered is asked again. Then everybody tells the same story."""
        for _ in range(300):
            if self.deliver_first():
                pass
            elif self.calling:
                self.provider_answers("captured", charged=True)
            elif self.payment is not None and self.payment.status in ("capturing", "retrying"):
                self.try_again()
            elif self.payment is not None and self.payment.status == "refunding":
                self.refund()
            elif self.parcel in ("requested", "shipped"):
                self.carry()
            elif not self.saga.is_closed:
                self.resend_overdue()
            else:
                break
        self.one_end_at_most()
        [end] = [event for event in self.stream if isinstance(event, (OrderCancelled, *ENDS))]
        [outcome] = self.outcomes
        status = self.order.status
        match end:
            case OrderCancelled():
                assert status == ("refunded" if self.charges else "cancelled"), f"{status} of {self.charges} charges"
                assert outcome in ("cancelled", "completed")
                assert self.charges == self.refunds
                assert not [event for event in self.stream if isinstance(event, OrderCancellationRefused)][
                    self.accepted :
                ]
            case _:
                assert status == ENDS[type(end)]
                assert outcome == ("completed" if status == "delivered" else status)
                assert self.charges == (status == "delivered")
                assert self.refunds == 0
                refused = [event for event in self.stream if isinstance(event, OrderCancellationRefused)]
                assert len(refused) == self.accepted, "an accepted cancellation that fails is refused in the stream"
        assert not self.order.cancelling
        assert self.stock in (("gone",) if status == "delivered" else ("none", "released"))


def test_everybody_tells_the_same_end_of_an_order() -> None:
    run_state_machine_as_test(OneOrder, settings=settings(max_examples=500, stateful_step_count=25, deadline=None))


def test_a_cancellation_while_money_is_asked_for_stops_the_money_at_once() -> None:
    saga = Saga(new_id(), has_order=True, stock="held", money="asked")
    saga.request_cancellation("changed my mind")
    assert saga.take_next_steps() == ["refund_payment", "release_stock"]


def test_a_cancellation_after_a_published_decline_is_refused_and_the_decline_stays_the_end() -> None:
    saga = Saga(new_id(), has_order=True, stock="held", money="asked")
    saga.apply_report("money", "failed")
    assert saga.take_next_steps() == ["publish_payment_failed", "release_stock"]
    saga.request_cancellation("changed my mind")
    assert saga.take_next_steps() == ["refuse_cancellation"]
    saga.apply_stock_release("payment failed")
    assert saga.take_next_steps() == []
    assert saga.is_closed
