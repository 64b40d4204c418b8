"""The message door: every event that moves a saga, and the command that cancels one."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.inventory.messages import (
    INVENTORY_REJECTED,
    INVENTORY_RELEASED,
    INVENTORY_RESERVED,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
)
from services.orders.messages import ORDER_CREATED, OrderCreated
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_FAILED, PAYMENT_REFUNDED, PaymentCompleted, PaymentFailed, PaymentRefunded
from services.processing import use_cases
from services.processing.messages import CANCEL_ORDER, CancelOrder
from services.processing.model import Saga
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, SHIPMENT_CANCELLED, OrderDelivered, OrderShipped, ShipmentCancelled

consume = Consumers("processing")

Context = use_cases.ProcessingContext
TakeIn = use_cases.TakeIn


@consume(ORDER_CREATED)
async def order_created(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await use_cases.start(context, work, deliveries)


@consume(INVENTORY_RESERVED)
async def inventory_reserved(context: Context, work: UnitOfWork, deliveries: list[Delivery[InventoryReserved]]) -> None:
    await use_cases.advance(context, work, [(d.message.order_id, d, lambda saga: saga.learn("stock", "held")) for d in deliveries])


@consume(INVENTORY_REJECTED)
async def inventory_rejected(context: Context, work: UnitOfWork, deliveries: list[Delivery[InventoryRejected]]) -> None:
    def rejected(delivery: Delivery[InventoryRejected]) -> TakeIn:
        short = ", ".join(shortage.sku for shortage in delivery.message.shortages[:5])

        def take_in(saga: Saga) -> None:
            if saga.learn("stock", "rejected"):
                saga.reason = f"not enough stock of {short}"

        return take_in

    await use_cases.advance(context, work, [(d.message.order_id, d, rejected(d)) for d in deliveries])


@consume(INVENTORY_RELEASED)
async def inventory_released(context: Context, work: UnitOfWork, deliveries: list[Delivery[InventoryReleased]]) -> None:
    def released(reason: str) -> TakeIn:
        return lambda saga: saga.stock_released(reason)

    await use_cases.advance(context, work, [(d.message.order_id, d, released(d.message.reason)) for d in deliveries])


@consume(PAYMENT_COMPLETED)
async def payment_completed(context: Context, work: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]) -> None:
    def captured(amount: int) -> TakeIn:
        def take_in(saga: Saga) -> None:
            if saga.learn("money", "captured"):
                saga.captured = amount

        return take_in

    await use_cases.advance(context, work, [(d.message.order_id, d, captured(d.message.amount.amount)) for d in deliveries])


@consume(PAYMENT_FAILED)
async def payment_failed(context: Context, work: UnitOfWork, deliveries: list[Delivery[PaymentFailed]]) -> None:
    def failed(reason: str) -> TakeIn:
        def take_in(saga: Saga) -> None:
            if saga.learn("money", "failed"):
                saga.reason = reason

        return take_in

    await use_cases.advance(context, work, [(d.message.order_id, d, failed(d.message.reason)) for d in deliveries])


@consume(PAYMENT_REFUNDED)
async def payment_refunded(context: Context, work: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]) -> None:
    def refunded(amount: int) -> TakeIn:
        def take_in(saga: Saga) -> None:
            if saga.learn("money", "refunded"):
                saga.captured = max(saga.captured, amount)
                saga.refunded = amount

        return take_in

    await use_cases.advance(context, work, [(d.message.order_id, d, refunded(d.message.amount.amount)) for d in deliveries])


@consume(ORDER_SHIPPED)
async def order_shipped(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    await use_cases.advance(context, work, [(d.message.order_id, d, lambda saga: saga.learn("parcel", "sent")) for d in deliveries])


@consume(ORDER_DELIVERED)
async def order_delivered(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]) -> None:
    await use_cases.advance(context, work, [(d.message.order_id, d, lambda saga: saga.learn("parcel", "delivered")) for d in deliveries])


@consume(SHIPMENT_CANCELLED)
async def shipment_cancelled(context: Context, work: UnitOfWork, deliveries: list[Delivery[ShipmentCancelled]]) -> None:
    await use_cases.advance(context, work, [(d.message.order_id, d, lambda saga: saga.learn("parcel", "stopped")) for d in deliveries])


@consume(CANCEL_ORDER)
async def cancel_order(context: Context, work: UnitOfWork, deliveries: list[Delivery[CancelOrder]]) -> None:
    def wanted(reason: str) -> TakeIn:
        return lambda saga: saga.want_cancelled(reason)

    await use_cases.advance(context, work, [(d.message.order_id, d, wanted(d.message.reason)) for d in deliveries])
