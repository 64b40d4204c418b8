"""The commands that payments takes and the events that it publishes."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from caravan.messages import KEPT, Command, Event, Queue, Topic
from caravan.money import Money

PaymentStatus = Literal["expected", "capturing", "retrying", "completed", "failed", "refunding", "refunded", "voided"]


class InvoiceLine(BaseModel):
    sku: str
    name: str
    quantity: int
    unit_price: int


class ExpectPayment(Command):
    """What an order will be charged with, sent when it is placed. The payment's token travels in this command alone,
    and is kept until the payment has ended.
    """

    order_id: UUID
    user_id: UUID
    email: str
    customer_name: str
    amount: Money
    method: str
    token: str
    lines: list[InvoiceLine]
    billing_address: str


class CapturePayment(Command):
    """Charge an order once, with what ExpectPayment says, whichever comes first. Answered by PaymentCompleted or
    PaymentFailed, also when the order id comes again.
    """

    version = 2

    order_id: UUID


class RefundPayment(Command):
    """Give back all that was captured for an order; answered by PaymentRefunded, also when nothing had been captured
    (amount 0).
    """

    order_id: UUID
    reason: str


class PaymentCompleted(Event):
    order_id: UUID
    amount: Money
    attempt: int
    invoice_number: str


class PaymentFailed(Event):
    """For good: a hard decline, or every attempt used up."""

    order_id: UUID
    reason: str
    attempts: int


class PaymentRefunded(Event):
    order_id: UUID
    amount: Money
    reason: str


EXPECT_PAYMENT = Queue(
    "payments.expect",
    owner="payments",
    commands=(ExpectPayment,),
    key="order id",
    purpose="Know what an order will be charged with.",
)
CAPTURE_PAYMENT = Queue(
    "payments.capture", owner="payments", commands=(CapturePayment,), key="order id", purpose="Charge an order."
)
REFUND_PAYMENT = Queue(
    "payments.refund",
    owner="payments",
    commands=(RefundPayment,),
    key="order id",
    purpose="Give back what was captured.",
)
PAYMENT_COMPLETED = Topic(
    "payment-completed",
    owner="payments",
    events=(PaymentCompleted,),
    key="order id",
    purpose="Money was captured.",
    retention=KEPT,
)
PAYMENT_FAILED = Topic(
    "payment-failed", owner="payments", events=(PaymentFailed,), key="order id", purpose="An order can't be paid."
)
PAYMENT_REFUNDED = Topic(
    "payment-refunded",
    owner="payments",
    events=(PaymentRefunded,),
    key="order id",
    purpose="Money was given back.",
    retention=KEPT,
)
CHANNELS = (EXPECT_PAYMENT, CAPTURE_PAYMENT, REFUND_PAYMENT, PAYMENT_COMPLETED, PAYMENT_FAILED, PAYMENT_REFUNDED)
