"""What the buses of both brokers tell who publishes: which messages were not taken, and why."""

import asyncio

import pytest

from caravan.bus import Bus, PublishError
from caravan.messages import OutgoingMessage

BY_EARLIER = "an earlier message of its key could not be sent"


async def publish_and_fail(bus: Bus, *messages: OutgoingMessage) -> dict[bytes, tuple[str, bool]]:
    """Of each message that was not taken: why, and whether for good."""
    with pytest.raises(PublishError) as raised:
        async with asyncio.timeout(5):
            await bus.publish(messages)
    return {failure.message.body: (failure.reason, failure.permanent) for failure in raised.value.failures}
