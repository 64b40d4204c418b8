"""Kafka and RabbitMQ keep the promise of the bus, where they can be had: `TEST_KAFKA_URL` and `TEST_RABBITMQ_URL` name them."""

import os
from collections.abc import AsyncIterator

import pytest

from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from tests.contract.bus_contract import BusContract

KAFKA, RABBITMQ = os.environ.get("TEST_KAFKA_URL", ""), os.environ.get("TEST_RABBITMQ_URL", "")


@pytest.mark.skipif(not KAFKA, reason="TEST_KAFKA_URL names no broker")
class TestKafkaBus(BusContract):
    kinds = ("topic",)

    @pytest.fixture
    async def bus(self) -> AsyncIterator[KafkaBus]:
        bus = KafkaBus(KAFKA, "contract")
        await bus.start()
        yield bus
        await bus.stop()
        await bus.close()


@pytest.mark.skipif(not RABBITMQ, reason="TEST_RABBITMQ_URL names no broker")
class TestRabbitBus(BusContract):
    kinds = ("queue", "exchange")

    @pytest.fixture
    async def bus(self) -> AsyncIterator[RabbitBus]:
        bus = RabbitBus(RABBITMQ, "contract")
        await bus.start()
        yield bus
        await bus.stop()
        await bus.close()
