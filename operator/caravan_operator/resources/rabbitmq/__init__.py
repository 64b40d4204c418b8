"""The kinds of RabbitMQ: connection, exchange, queue, binding, policy; a module each."""

from caravan_operator.resources.rabbitmq.binding import RABBITMQ_BINDING
from caravan_operator.resources.rabbitmq.connection import RABBITMQ_CONNECTION
from caravan_operator.resources.rabbitmq.exchange import RABBITMQ_EXCHANGE
from caravan_operator.resources.rabbitmq.fields import LIMITS_POLICY, LIMITS_PRIORITY
from caravan_operator.resources.rabbitmq.policy import RABBITMQ_POLICY
from caravan_operator.resources.rabbitmq.queue import RABBITMQ_QUEUE

__all__ = [
    "LIMITS_POLICY",
    "LIMITS_PRIORITY",
    "RABBITMQ_BINDING",
    "RABBITMQ_CONNECTION",
    "RABBITMQ_EXCHANGE",
    "RABBITMQ_POLICY",
    "RABBITMQ_QUEUE",
]
