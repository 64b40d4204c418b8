"""Kafka and RabbitMQ keep the promise of the bus."""

from collections.abc import AsyncIterator

import pytest

from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from tests.backends import Broker
from tests.contract.bus_contract import BusContract


class TestKafkaBus(BusContract):
    kinds = ("topic",)

    @pytest.fixture
    async def bus(self, kafka: Broker) -> AsyncIterator[KafkaBus]:
        bus = KafkaBus(kafka.url, "contract")
        await bus.start()
        yield bus
        await bus.stop()
        await bus.close()


class TestRabbitBus(BusContract):
    kinds = ("queue", "exchange")

    @pytest.fixture
    async def bus(self, rabbitmq: Broker) -> AsyncIterator[RabbitBus]:
        bus = RabbitBus(rabbitmq.url, "contract", management=rabbitmq.management_url)
        await bus.start()
        yield bus
        await bus.stop()
        await bus.close()
