"""The saga of one order: what is known of its stock, money and parcel, and what to do next.

Level-based: a fact only moves its own part forward, in whatever order facts come and however often; `next_steps` looks
at all parts and says what to send. Sending is recorded, so a step is taken once; after a deadline it is sent again,
which every receiver answers the same way.

    part     goes through
    stock    none → asked → held → releasing → released      or asked → rejected; held → released when it expired
    money    none → asked → captured → refunding → refunded  or asked → failed; asked → refunding by a cancellation
    parcel   none → asked → sent → delivered                 or asked → stopping → stopped (or sent, when it had left)

An order has one end, and this is where it is decided. A cancellation that comes while nothing has been decided is the
end, whatever the answers still under way say; one that comes after a refusal was published (`rejected`,
`payment_failed`), or after the parcel has left, is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from services.inventory.messages import InventoryRejected, InventoryReleased, InventoryReserved
from services.payments.messages import PaymentCompleted, PaymentFailed, PaymentRefunded
from services.processing.messages import CancelOrder
from services.shipping.messages import OrderDelivered, OrderShipped, ShipmentCancelled

SagaMessage = (
    InventoryReserved
    | InventoryRejected
    | InventoryReleased
    | PaymentCompleted
    | PaymentFailed
    | PaymentRefunded
    | OrderShipped
    | OrderDelivered
    | ShipmentCancelled
    | CancelOrder
)
"""What moves a saga once it has begun."""

Stock = Literal["none", "asked", "held", "rejected", "releasing", "released"]
Money = Literal["none", "asked", "captured", "failed", "refunding", "refunded"]
Parcel = Literal["none", "asked", "sent", "delivered", "stopping", "stopped"]
Step = Literal[
    "reserve_stock",
    "capture_payment",
    "ship_order",
    "release_stock",
    "refund_payment",
    "cancel_shipment",
    "publish_completed",
    "publish_rejected",
    "publish_payment_failed",
    "publish_cancelled",
    "publish_undone",
    "refuse_cancellation",
]

ALLOWED_TRANSITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "stock": {
        "held": ("none", "asked"),
        "rejected": ("none", "asked"),
        "released": ("none", "asked", "held", "releasing"),
    },
    "money": {
        "captured": ("none", "asked"),
        "failed": ("none", "asked"),
        "refunded": ("none", "asked", "captured", "refunding"),
    },
    "parcel": {
        "sent": ("none", "asked", "stopping"),
        "delivered": ("none", "asked", "stopping", "sent"),
        "stopped": ("none", "asked", "stopping"),
    },
}
"""The values from which a fact may move its part; from any other it is an old story and changes nothing."""


@dataclass(slots=True)
class Saga:
    order_id: UUID
    has_order: bool = field(default=False, kw_only=True)
    """Whether OrderCreated has come: a cancellation may overtake it."""
    stock: Stock = "none"
    money: Money = "none"
    parcel: Parcel = "none"
    cancel_reason: str | None = None
    reason: str = ""
    captured: int = 0
    refunded: int = 0
    is_processed: bool = False
    """`order-processed` is out: once per order."""
    is_closed: bool = False
    version: int = 0
    steps: list[Step] = field(default_factory=list, init=False)

    def apply_message(self, message: SagaMessage) -> None:
        """Take over what another service reports, or that the order is to be cancelled. Frequent messages come first:
        each case that doesn't match costs time.
        """
        match message:
            case InventoryReserved():
                self.apply_report("stock", "held")
            case PaymentCompleted(amount=captured):
                if self.apply_report("money", "captured"):
                    self.captured = captured.amount
            case OrderShipped():
                self.apply_report("parcel", "sent")
            case OrderDelivered():
                self.apply_report("parcel", "delivered")
            case InventoryRejected(shortages=shortages):
                self._apply_stock_rejection([shortage.sku for shortage in shortages])
            case InventoryReleased(reason=reason):
                self.apply_stock_release(reason)
            case PaymentFailed(reason=reason):
                if self.apply_report("money", "failed"):
                    self.reason = reason
            case PaymentRefunded(amount=refunded):
                self._apply_refund(refunded.amount)
            case ShipmentCancelled():
                self.apply_report("parcel", "stopped")
            case CancelOrder(reason=reason):
                self.request_cancellation(reason)

    def apply_report(self, aspect: Literal["stock", "money", "parcel"], new_state: str) -> bool:
        """Apply what was reported. Returns whether it changed anything."""
        if getattr(self, aspect) not in ALLOWED_TRANSITIONS[aspect][new_state]:
            return False
        setattr(self, aspect, new_state)
        return True

    def _apply_stock_rejection(self, skus: Sequence[str]) -> None:
        if self.apply_report("stock", "rejected"):
            self.reason = f"not enough stock of {', '.join(skus[:5])}"

    def _apply_refund(self, amount: int) -> None:
        if self.apply_report("money", "refunded"):
            self.captured = max(self.captured, amount)
            self.refunded = amount

    def apply_stock_release(self, reason: str) -> None:
        """A release that was not requested is an expiry: what has not left yet is undone. The report may even overtake
        that of the reservation.
        """
        is_unrequested = self.stock != "releasing" and self.money != "failed" and self.parcel in ("none", "asked")
        if self.apply_report("stock", "released") and is_unrequested:
            self.request_cancellation(f"reservation {reason}")

    def request_cancellation(self, reason: str) -> None:
        if self.cancel_reason is None:
            self.cancel_reason = reason

    def take_next_steps(self) -> list[Step]:
        """What to send now; the states are moved as if it had been sent."""
        if self.is_closed and self.cancel_reason is None:
            return []
        self.steps = []
        if self.cancel_reason is not None and self.has_order:
            self._compensate()
        elif self.has_order:
            self._next_forward_steps()
        return self.steps

    @property
    def has_ended(self) -> bool:
        """Nothing can be cancelled any more: the parcel has left, or what came of the order was published."""
        return self.is_closed or self.parcel in ("sent", "delivered") or (self.is_processed and self.money == "failed")

    def explain_refusal(self) -> str:
        """For whoever asked for the cancellation of an order that has ended."""
        if self.parcel in ("sent", "delivered"):
            return "the parcel has left already"
        if self.stock == "rejected":
            return "the order was rejected before: it was not in stock"
        return "the payment had failed before" if self.money == "failed" else "the order was cancelled before"

    def list_outstanding_steps(self) -> list[Step]:
        """The steps that wait for an answer: what to send again after a deadline."""
        candidates: list[tuple[bool, Step]] = [
            (self.stock == "asked", "reserve_stock"),
            (self.stock == "releasing", "release_stock"),
            (self.money == "asked", "capture_payment"),
            (self.money == "refunding", "refund_payment"),
            (self.parcel == "asked", "ship_order"),
            (self.parcel == "stopping", "cancel_shipment"),
        ]
        return [step for is_waiting, step in candidates if is_waiting]

    def _next_forward_steps(self) -> None:
        if self.stock == "none":
            self.stock = "asked"
            self.steps.append("reserve_stock")
        elif self.stock == "rejected":
            self._add_outcome_step("publish_rejected")
            self.is_closed = True
        elif self.stock == "held" and self.money == "none":
            self.money = "asked"
            self.steps.append("capture_payment")
        elif self.money == "failed":
            self._add_outcome_step("publish_payment_failed")
            if self.stock == "held":
                self.stock = "releasing"
                self.steps.append("release_stock")
            self.is_closed = self.stock == "released"
        elif self.money == "captured":
            self._add_outcome_step("publish_completed")
            if self.parcel == "none":
                self.parcel = "asked"
                self.steps.append("ship_order")
            self.is_closed = self.parcel == "delivered"

    def _compensate(self) -> None:
        if self.has_ended:
            self.steps.append("refuse_cancellation")
            self.cancel_reason = None
            if not self.is_closed:
                self._next_forward_steps()
            return
        if self.parcel == "asked":
            self.parcel = "stopping"
            self.steps.append("cancel_shipment")
        if self.parcel == "stopping" or self.stock == "asked":
            return  # the outcome of these is not known yet: compensate only what is
        if self.money in (
            "asked",
            "captured",
        ):  # what is not charged yet must not be any more: payments knows which it is
            self.money = "refunding"
            self.steps.append("refund_payment")
        if self.stock == "held":
            self.stock = "releasing"
            self.steps.append("release_stock")
        if self.money in ("none", "failed", "refunded") and self.stock in ("none", "rejected", "released"):
            self._add_outcome_step("publish_cancelled")
            self.steps.append("publish_undone")
            self.reason, self.cancel_reason = self.cancel_reason or "", None
            self.is_closed = True

    def _add_outcome_step(self, outcome: Step) -> None:
        if not self.is_processed:
            self.is_processed = True
            self.steps.append(outcome)
