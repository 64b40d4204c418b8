"""The messages that begin, move and cancel a saga."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import INVENTORY_REJECTED, INVENTORY_RELEASED, INVENTORY_RESERVED
from services.orders.messages import ORDER_CREATED, OrderCreated
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_FAILED, PAYMENT_REFUNDED
from services.processing import use_cases
from services.processing.messages import CANCEL_ORDER
from services.processing.model import SagaMessage
from services.processing.use_cases import ProcessingContext
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, SHIPMENT_CANCELLED

consume = Consumers("processing")


@consume(ORDER_CREATED)
async def start_sagas(context: ProcessingContext, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await use_cases.start_sagas(context, uow, deliveries)


@consume(
    INVENTORY_RESERVED,
    INVENTORY_REJECTED,
    INVENTORY_RELEASED,
    PAYMENT_COMPLETED,
    PAYMENT_FAILED,
    PAYMENT_REFUNDED,
    ORDER_SHIPPED,
    ORDER_DELIVERED,
    SHIPMENT_CANCELLED,
    CANCEL_ORDER,
)
async def advance_sagas(context: ProcessingContext, uow: UnitOfWork, deliveries: list[Delivery[SagaMessage]]) -> None:
    await use_cases.advance_sagas(context, uow, deliveries)
