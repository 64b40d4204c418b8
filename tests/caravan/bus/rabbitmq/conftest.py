"""The RabbitMQ in memory that the clients of a test connect to."""

import pytest

from tests.caravan.bus.rabbitmq.fake_rabbitmq import FakeRabbitmq


@pytest.fixture
def fake_rabbitmq(monkeypatch: pytest.MonkeyPatch) -> FakeRabbitmq:
    rabbitmq = FakeRabbitmq()
    rabbitmq.install(monkeypatch)
    return rabbitmq
