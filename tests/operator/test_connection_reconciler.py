"""The pass over a connection itself: its status, its events, and what it wakes."""

from dataclasses import replace
from typing import Any

import pytest
from caravan_operator.resources import PAUSED_ANNOTATION
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, READY, SYNCED

from tests.operator.reconciler_lab import Counts, Lab
from tests.operator.resources import make_resource


async def test_a_connection_that_becomes_ready_wakes_all_that_it_serves(lab: Lab) -> None:
    topic, counts = make_resource(), Counts("KafkaConnection")
    lab.add(topic)
    await lab.run(lab.connection)
    assert lab.get_reason(lab.connection, READY) == ("True", "Ready")
    status = lab.get_status(lab.connection)
    assert (status["reachable"], status["circuit"], status["clusterId"]) == (True, "Closed", "one")
    assert lab.list_queued() == ["broker", "orders"]
    await lab.run(lab.connection)
    assert lab.list_queued() == [], "once"
    assert counts.list_changes() == {"success": 2.0}


async def test_rotated_credentials_are_an_event(lab: Lab) -> None:
    await lab.run(lab.connection)
    lab.connections.fingerprint = "hash-2"
    lab.api.events.clear()
    await lab.run(lab.connection)
    assert [(name, reason) for name, reason, _ in lab.api.events] == [("broker", "CredentialsRotated")]


async def test_a_connection_that_fails_says_so_and_comes_again(lab: Lab) -> None:
    lab.broker.remaining_reads = 0
    await lab.run(lab.connection)
    assert lab.get_reason(lab.connection, CONNECTION_READY) == ("False", "Unreachable")
    assert lab.get_reason(lab.connection, SYNCED) == ("Unknown", "Unreachable")
    assert lab.get_status(lab.connection)["circuit"] == "Open"
    lab.broker.remaining_reads = 10
    assert lab.list_queued() == ["broker"]


@pytest.mark.parametrize(
    ("changes", "condition", "reason"),
    [
        ({"annotations": {PAUSED_ANNOTATION: "true"}}, "Paused", ("True", "Paused")),
        ({"spec": {"bootstrapServers": ["k:9092"], "protectedTopics": ["("]}}, ACCEPTED, ("False", "Invalid")),
    ],
)
async def test_a_connection_that_is_paused_or_invalid_is_not_asked(
    lab: Lab, changes: dict[str, Any], condition: str, reason: tuple[str, str]
) -> None:
    connection = replace(lab.connection, **changes)
    lab.add(connection)
    await lab.run(connection)
    assert lab.get_reason(connection, condition) == reason
    assert lab.broker.remaining_reads == 1000
