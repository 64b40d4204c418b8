"""`caravan topology`: make the topics and queues of all services, show drift, print what the operator's resources are made from."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
import uvloop
import yaml

from caravan import telemetry
from caravan.audit import AUDIT
from caravan.bus.topology import Topology, TopologyError, kafka, rabbit, topology
from caravan.bus.topology.drift import Applied, Difference, Kind, compare
from caravan.bus.topology.render import resources
from caravan.runtime import subscriptions
from caravan.settings import Settings
from services.__main__ import load
from services.cli.configuration import kernel_settings
from services.cli.serve import patiently
from services.cli.terminal import fail, print_document, print_line, show_spinner

T = TypeVar("T")

DRIFT = 3


def declared(replicas: int) -> Topology:
    """What the channels and readers of all services need."""
    services = load()
    return topology([AUDIT, *(channel for service in services for channel in service.channels)], subscriptions(services), replicas=replicas)


def apply(grow_partitions: bool) -> None:
    kernel, amqp, management = _brokers()
    wanted = declared(kernel.kafka_replicas)

    with show_spinner(f"{len(wanted.kafka)} topics, {len(wanted.rabbit)} queues, exchanges, bindings and policies") as announce:

        async def both() -> tuple[Applied, Applied]:
            return (
                await patiently(lambda: kafka.apply(kernel.kafka_url, wanted, grow=grow_partitions), kernel, announce),
                await patiently(lambda: rabbit.apply(management, amqp, wanted), kernel, announce),
            )

        logs, tasks = _run(both())
    for line in (*logs.done, *tasks.done):
        print_line(line)
    for line in (*logs.left, *tasks.left):
        print_line(f"left: {line}")
    left = len(logs.left) + len(tasks.left)
    print_line(f"{len(logs.done) + len(tasks.done)} changes; {left} differences left")
    raise typer.Exit(DRIFT if left else 0)


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
