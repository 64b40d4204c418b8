"""Orders, processing, payments, inventory and shipping around one order, each with its own rules, in one process."""

from collections import deque
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from caravan.clock import new_id
from caravan.messages import Event
from caravan.money import Money
from services.orders import model as orders
from services.payments.model import Payment
from services.processing.model import Saga, Step
from tests.support.order_messages import ADDRESS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


PRICE = Money(amount=1250, currency="GBP")


Message = tuple[str, Any]


def create_placed_event(order_id: UUID) -> Event:
    lines = [(orders.OfferedProduct("MUG", "Mug", "all", PRICE), 1)]
    return orders.create_order(order_id, new_id(), "ada@example.com", "Ada", lines, ADDRESS, "card", NOW)


class OrderServices:
    """Each channel keeps its order, as topics and queues do for a key; channels overtake each other."""

    def __init__(self) -> None:
        super().__init__()
        order_id = new_id()
        self.order, self.stream = orders.Order(), [create_placed_event(order_id)]
        self.order.apply(self.stream[0])
        self.saga = Saga(order_id)
        self.payment: Payment | None = None
        self.calling = False
        self.charges = self.refunds = 0
        self.stock = self.parcel = "none"
        self.outcomes: list[str] = []
        self.channels: dict[str, deque[Message]] = {}
        self.handled: list[tuple[str, Message]] = []
        self.accepted = 0
        self.send("order-created", "created", None)

    def send(self, channel: str, name: str, value: Any) -> None:
        self.channels.setdefault(channel, deque()).append((name, value))

    def handle(self, channel: str, message: Message) -> None:
        name, value = message
        match channel:
            case "order-created":
                self.saga.has_order = True
            case "cancel-order":
                self.saga.request_cancellation(value)
            case "inventory-reserved" | "inventory-rejected" | "inventory-released":
                self.handle_report_of_inventory(channel, value)
            case "payment-completed" | "payment-failed" | "payment-refunded":
                self.handle_report_of_payments(channel, value)
            case "order-shipped" | "order-delivered" | "shipment-cancelled":
                self.handle_report_of_shipping(channel)
            case "order-processed" | "order-undone":
                self.handle_end(channel, name, value)
                return
            case "capture" | "refund":
                self.handle_payment_command(channel)
                return
            case _:
                raise AssertionError(channel)
        self.take_steps(self.saga.take_next_steps())

    def handle_report_of_inventory(self, channel: str, value: Any) -> None:
        match channel:
            case "inventory-reserved":
                self.record(self.order.record_report(orders.InventoryReserved()))
                self.saga.apply_report("stock", "held")
            case "inventory-rejected":
                self.saga.apply_report("stock", "rejected")
            case "inventory-released":
                self.saga.apply_stock_release(value)

    def handle_report_of_payments(self, channel: str, value: Any) -> None:
        saga = self.saga
        match channel:
            case "payment-completed":
                self.record(
                    self.order.record_report(orders.PaymentCompleted(amount=PRICE, attempt=1, invoice_number="INV-1"))
                )
                if saga.apply_report("money", "captured"):
                    saga.captured = value
            case "payment-failed":
                if saga.apply_report("money", "failed"):
                    saga.reason = value
            case "payment-refunded":
                if saga.apply_report("money", "refunded"):
                    saga.captured, saga.refunded = max(saga.captured, value), value

    def handle_report_of_shipping(self, channel: str) -> None:
        match channel:
            case "order-shipped":
                self.record(self.order.record_report(orders.OrderShipped(carrier="Camel Post", tracking_number="CP1")))
                self.saga.apply_report("parcel", "sent")
            case "order-delivered":
                self.record(self.order.record_report(orders.OrderDelivered(tracking_number="CP1")))
                self.saga.apply_report("parcel", "delivered")
            case "shipment-cancelled":
                self.saga.apply_report("parcel", "stopped")

    def handle_end(self, channel: str, name: str, value: Any) -> None:
        if channel == "order-undone":
            undone = name == "undone"
            self.record(
                self.order.complete_cancellation("", value) if undone else self.order.refuse_cancellation(value)
            )
            return
        reports = {
            "rejected": orders.InventoryRejected(reason="gone"),
            "payment_failed": orders.PaymentFailed(reason="declined"),
        }
        if name in reports:
            self.record(self.order.record_report(reports[name]))

    def record(self, events: list[Event]) -> None:
        for event in events:
            self.order.apply(event)
            self.stream.append(event)

    def take_steps(self, steps: list[Step]) -> None:
        for step in list(steps):
            self.take_step(step)

    def take_step(self, step: Step) -> None:
        match step:
            case "reserve_stock":
                if self.stock == "none":
                    self.stock = "held"
                facts = {"held": "inventory-reserved", "gone": "inventory-reserved", "released": "inventory-released"}
                self.send(facts[self.stock], "stock", "released")
            case "release_stock":
                assert self.stock != "gone", "stock that has left can't be released"
                self.stock = "released"
                self.send("inventory-released", "stock", "released")
            case "capture_payment":
                self.send("capture", "capture", None)
            case "refund_payment":
                self.send("refund", "refund", None)
            case "ship_order":
                assert self.charges == 1 and self.refunds == 0, "nothing is shipped unpaid"
                if self.parcel == "none":
                    self.parcel = "requested"
            case "cancel_shipment":
                if self.parcel in ("none", "requested"):
                    self.parcel = "stopped"
                self.send("shipment-cancelled" if self.parcel == "stopped" else "order-shipped", "", None)
            case "publish_undone":
                refunded = Money(amount=self.saga.refunded, currency="GBP") if self.saga.refunded else None
                self.send("order-undone", "undone", refunded)
            case "refuse_cancellation":
                self.send("order-undone", "refused", self.saga.explain_refusal())
            case _:
                self.outcomes.append(step.removeprefix("publish_"))
                self.send("order-processed", self.outcomes[-1], None)

    def handle_payment_command(self, command: str) -> None:
        payment = self.payment
        if command == "capture":
            if payment is None:
                self.payment = self.create_payment("capturing")
                self.calling = True
            else:
                self.publish_payment(payment)
            return
        if payment is None:
            payment = self.payment = self.create_payment("expected")
        was = payment.status
        payment.request_refund()
        if was == "retrying":
            self.publish_payment(payment)
        if payment.status in ("voided", "failed", "refunded"):
            self.send("payment-refunded", "refunded", PRICE.amount if payment.status == "refunded" else 0)

    def create_payment(self, status: Any) -> Payment:
        return Payment(self.saga.order_id, status, PRICE.amount, "GBP", "t", 1, "", False, NOW, None, None, None)

    def publish_payment(self, payment: Payment) -> None:
        if payment.status in ("completed", "refunding", "refunded"):
            self.send("payment-completed", "captured", PRICE.amount)
        elif payment.status in ("failed", "voided"):
            self.send("payment-failed", "failed", payment.reason)
