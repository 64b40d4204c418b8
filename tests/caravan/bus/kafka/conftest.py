"""The Kafka in memory that the clients of a test connect to."""

import pytest

from tests.caravan.bus.kafka.fake_kafka import FakeKafka


@pytest.fixture
def fake_kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    kafka = FakeKafka()
    kafka.install(monkeypatch)
    return kafka
