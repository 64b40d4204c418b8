"""Queues and exchanges on RabbitMQ: durable quorum queues, confirmed publishes, retry tiers as queues of their own.

A message is acknowledged after its outcome is durable: committed, or confirmed in the dead-letter queue `<queue>.dlq`.
`reader.py` describes how a failed one waits.
"""

from caravan.bus.rabbitmq.bus import RabbitBus

__all__ = ["RabbitBus"]
