"""`caravan topology`: make the topics and queues of all services, show drift, print what the operator's resources are made from."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
import uvloop
import yaml

from caravan import telemetry
from caravan.audit import AUDIT, OPERATOR, AuditRecorded
from caravan.bus import Undelivered
from caravan.bus.kafka import KafkaBus
from caravan.bus.topology import BrokerAway, Topology, TopologyError, kafka, rabbit, topology
from caravan.bus.topology.drift import Applied, Difference, Kind, compare
from caravan.bus.topology.render import resources
from caravan.clock import utc_now
from caravan.messages import encode
from caravan.runtime import subscriptions
from caravan.settings import Settings
from services.__main__ import load
from services.cli.configuration import kernel_settings
from services.cli.serve import patiently
from services.cli.terminal import fail, print_document, print_line, show_spinner

T = TypeVar("T")

DRIFT = 3
NAMED = 500


def declared(replicas: int) -> Topology:
    """What the channels and readers of all services need."""
    services = load()
    return topology([AUDIT, *(channel for service in services for channel in service.channels)], subscriptions(services), replicas=replicas)


def apply(grow_partitions: bool) -> None:
    kernel, amqp, management = _brokers()
    wanted = declared(kernel.kafka_replicas)

    with show_spinner(f"{len(wanted.kafka)} topics, {len(wanted.rabbit)} queues, exchanges, bindings and policies") as announce:

        async def both() -> tuple[Applied, Applied]:
            logs = await patiently(lambda: kafka.apply(kernel.kafka_url, wanted, grow=grow_partitions), kernel, announce)
            tasks = await patiently(lambda: rabbit.apply(management, amqp, wanted), kernel, announce)
            await patiently(lambda: _record(kernel, logs, tasks), kernel, announce)
            return logs, tasks

        logs, tasks = _run(both())
    for line in (*logs.done, *tasks.done):
        print_line(line)
    for line in (*logs.left, *tasks.left):
        print_line(f"left: {line}")
    left = len(logs.left) + len(tasks.left)
    print_line(f"{len(logs.done) + len(tasks.done)} changes; {left} differences left")
    raise typer.Exit(DRIFT if left else 0)


async def _record(kernel: Settings, logs: Applied, tasks: Applied) -> None:
    """In the audit log itself, since there is no database here. Of many changes the first are named."""
    done, left = [*logs.done, *tasks.done], [*logs.left, *tasks.left]
    details = {"changes": len(done), "done": done[:NAMED], "differences_left": len(left), "left": left[:NAMED]}
    record = AuditRecorded(actor=OPERATOR, action="topology.applied", target="topology", details=details, trace_id=telemetry.trace_id())
    bus = KafkaBus(kernel.kafka_url, "caravan topology")
    await bus.start()
    try:
        await bus.publish(
            [encode(record, AUDIT, key="topology", source="cli", time=utc_now(), traceparent=telemetry.traceparent.get(), actor=OPERATOR)]
        )
    except Undelivered as error:
        raise BrokerAway(f"the topology is as declared, and the audit log doesn't know of it: {error}") from error
    finally:
        await bus.close()


def diff(allow_foreign: bool) -> None:
    kernel, amqp, management = _brokers()
    wanted = declared(kernel.kafka_replicas)

    async def both() -> list[Difference]:
        logs, tasks = await asyncio.gather(kafka.observe(kernel.kafka_url, wanted), rabbit.observe(management, amqp))
        return compare(wanted.kafka, logs) + compare(wanted.rabbit, tasks)

    found = _run(both())
    for difference in found:
        print_line(difference)
    counted = [difference for difference in found if difference.kind is not Kind.FOREIGN or not allow_foreign]
    print_line(f"{len(wanted.kafka) + len(wanted.rabbit)} declared, {len(counted)} differences")
    raise typer.Exit(DRIFT if counted else 0)


def render(replicas: int) -> None:
    print_document(yaml.safe_dump_all(resources(declared(replicas)), sort_keys=False, explicit_start=True))


def _brokers() -> tuple[Settings, str, str]:
    """The settings, with the AMQP URL and that of the management API (empty: derived)."""
    telemetry.configure_logs("warning", "text")
    kernel = kernel_settings()
    if not kernel.kafka_url or kernel.rabbitmq_url is None:
        fail(
            "set CARAVAN_KAFKA_URL and CARAVAN_RABBITMQ_URL: without them topics and queues are kept in Postgres, and there is no topology to speak of"
        )
    management = kernel.rabbitmq_management_url.get_secret_value() if kernel.rabbitmq_management_url else ""
    return kernel, kernel.rabbitmq_url.get_secret_value(), management


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return uvloop.run(work)
    except TopologyError as error:
        fail(str(error))
