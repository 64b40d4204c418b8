"""The message door: every event that moves a saga, and the command that cancels one."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
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
from services.payments.messages import (
    PAYMENT_COMPLETED,
    PAYMENT_FAILED,
    PAYMENT_REFUNDED,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
)
from services.processing import use_cases
from services.processing.messages import CANCEL_ORDER, CancelOrder
from services.processing.model import Saga
from services.shipping.messages import (
    ORDER_DELIVERED,
    ORDER_SHIPPED,
    SHIPMENT_CANCELLED,
    OrderDelivered,
    OrderShipped,
    ShipmentCancelled,
)

consume = Consumers("processing")

Context = use_cases.ProcessingContext
SagaUpdate = use_cases.SagaUpdate


@consume(ORDER_CREATED)
async def handle_order_created(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await use_cases.start_sagas(context, uow, deliveries)


@consume(INVENTORY_RESERVED)
async def handle_inventory_reserved(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[InventoryReserved]]
) -> None:
    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, lambda saga: saga.apply_report("stock", "held")) for d in deliveries]
    )


@consume(INVENTORY_REJECTED)
async def handle_inventory_rejected(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[InventoryRejected]]
) -> None:
    def make_update(delivery: Delivery[InventoryRejected]) -> SagaUpdate:
        skus = ", ".join(shortage.sku for shortage in delivery.message.shortages[:5])

        def update_saga(saga: Saga) -> None:
            if saga.apply_report("stock", "rejected"):
                saga.reason = f"not enough stock of {skus}"

        return update_saga

    await use_cases.advance_sagas(context, uow, [(d.message.order_id, d, make_update(d)) for d in deliveries])


@consume(INVENTORY_RELEASED)
async def handle_inventory_released(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[InventoryReleased]]
) -> None:
    def make_update(reason: str) -> SagaUpdate:
        return lambda saga: saga.apply_stock_release(reason)

    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, make_update(d.message.reason)) for d in deliveries]
    )


@consume(PAYMENT_COMPLETED)
async def handle_payment_completed(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]
) -> None:
    def make_update(amount: int) -> SagaUpdate:
        def update_saga(saga: Saga) -> None:
            if saga.apply_report("money", "captured"):
                saga.captured = amount

        return update_saga

    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, make_update(d.message.amount.amount)) for d in deliveries]
    )


@consume(PAYMENT_FAILED)
async def handle_payment_failed(context: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentFailed]]) -> None:
    def make_update(reason: str) -> SagaUpdate:
        def update_saga(saga: Saga) -> None:
            if saga.apply_report("money", "failed"):
                saga.reason = reason

        return update_saga

    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, make_update(d.message.reason)) for d in deliveries]
    )


@consume(PAYMENT_REFUNDED)
async def handle_payment_refunded(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]
) -> None:
    def make_update(amount: int) -> SagaUpdate:
        def update_saga(saga: Saga) -> None:
            if saga.apply_report("money", "refunded"):
                saga.captured = max(saga.captured, amount)
                saga.refunded = amount

        return update_saga

    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, make_update(d.message.amount.amount)) for d in deliveries]
    )


@consume(ORDER_SHIPPED)
async def handle_order_shipped(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, lambda saga: saga.apply_report("parcel", "sent")) for d in deliveries]
    )


@consume(ORDER_DELIVERED)
async def handle_order_delivered(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]) -> None:
    await use_cases.advance_sagas(
        context,
        uow,
        [(d.message.order_id, d, lambda saga: saga.apply_report("parcel", "delivered")) for d in deliveries],
    )


@consume(SHIPMENT_CANCELLED)
async def handle_shipment_cancelled(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[ShipmentCancelled]]
) -> None:
    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, lambda saga: saga.apply_report("parcel", "stopped")) for d in deliveries]
    )


@consume(CANCEL_ORDER)
async def cancel_order(context: Context, uow: UnitOfWork, deliveries: list[Delivery[CancelOrder]]) -> None:
    def make_update(reason: str) -> SagaUpdate:
        return lambda saga: saga.request_cancellation(reason)

    await use_cases.advance_sagas(
        context, uow, [(d.message.order_id, d, make_update(d.message.reason)) for d in deliveries]
    )
