"""The buses that contracts are proved on, each started once per module; tests make channels of their own."""

from collections.abc import AsyncIterator

import pytest

from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from tests.support.backends import Broker


@pytest.fixture(scope="module")
async def kafka_bus(kafka: Broker) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(KafkaServers(kafka.url), "contract")
    await bus.start()
    yield bus
    await bus.stop()
    await bus.close()


@pytest.fixture(scope="module")
async def rabbit_bus(rabbitmq: Broker) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(rabbitmq.url, "contract", management=rabbitmq.management_url)
    await bus.start()
    yield bus
    await bus.stop()
    await bus.close()
