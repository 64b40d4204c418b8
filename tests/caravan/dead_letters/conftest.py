"""The failing service on the embedded bus, and on Kafka and RabbitMQ where they can be had."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from caravan.runtime import Backends
from tests.support.failing_service import DeadLetterAdmin, run_failing_service


@pytest.fixture(scope="module", params=["embedded", "brokers"])
def transport(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings that name the brokers; none for the embedded bus."""
    if request.param == "embedded":
        return {}
    kafka, rabbitmq = request.getfixturevalue("kafka"), request.getfixturevalue("rabbitmq")
    return {
        "kafka_url": kafka.url,
        "rabbitmq_url": rabbitmq.url,
        "rabbitmq_management_url": rabbitmq.management_url or None,
    }


@pytest.fixture
async def admin(transport: dict[str, Any], backends: Backends, tmp_path: Path) -> AsyncIterator[DeadLetterAdmin]:
    async with run_failing_service(backends, tmp_path, transport) as admin:
        yield admin
