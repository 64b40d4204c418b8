"""`caravan topology`: make the topics and queues of all services, show drift, print what the operator's resources are
made from.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
import uvloop
import yaml

from caravan import telemetry
from caravan.audit import AUDIT, OPERATOR, AuditRecorded
from caravan.bus import PublishError
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.topology import BrokerUnavailable, Topology, TopologyError, build_topology, kafka, rabbitmq
from caravan.bus.topology.drift import ApplyResult, Difference, DriftKind, find_differences
from caravan.bus.topology.render import build_resources
from caravan.clock import utc_now
from caravan.messages import encode_message
from caravan.runtime import list_subscriptions
from caravan.runtime.startup import StartTimeout, retry_until_available
from caravan.settings import Settings
from cli.configuration import load_kernel_settings
from cli.terminal import exit_with_error, print_document, print_line, show_spinner
from services.registry import load_services

T = TypeVar("T")

DRIFT_EXIT_CODE = 3
NAMED = 500


def build_declared_topology(replicas: int) -> Topology:
    """What the channels and readers of all services need."""
    services = load_services()
    return build_topology(
        [AUDIT, *(channel for service in services for channel in service.channels)],
        list_subscriptions(services),
        replicas=replicas,
    )


def apply_topology(grow_partitions: bool) -> None:
    kernel_settings, amqp, management = _load_broker_settings()
    desired = build_declared_topology(kernel_settings.kafka_replicas)
    servers = KafkaServers.from_settings(kernel_settings)

    with show_spinner(
        f"{len(desired.kafka_objects)} topics, {len(desired.rabbitmq_objects)} queues, exchanges, bindings and policies"
    ) as announce:

        async def apply_to_both() -> tuple[ApplyResult, ApplyResult]:
            logs = await retry_until_available(
                lambda: kafka.apply_topology(servers, desired, grow=grow_partitions),
                kernel_settings,
                announce,
            )
            tasks = await retry_until_available(
                lambda: rabbitmq.apply_topology(management, amqp, desired), kernel_settings, announce
            )
            await retry_until_available(lambda: _record(kernel_settings, logs, tasks), kernel_settings, announce)
            return logs, tasks

        kafka_result, rabbit_result = _run_or_exit(apply_to_both())
    for line in (*kafka_result.changes, *rabbit_result.changes):
        print_line(line)
    for line in (*kafka_result.unresolved, *rabbit_result.unresolved):
        print_line(f"unresolved: {line}")
    unresolved_count = len(kafka_result.unresolved) + len(rabbit_result.unresolved)
    print_line(
        f"{len(kafka_result.changes) + len(rabbit_result.changes)} changes; {unresolved_count} unresolved differences"
    )
    raise typer.Exit(DRIFT_EXIT_CODE if unresolved_count else 0)


async def _record(kernel: Settings, logs: ApplyResult, tasks: ApplyResult) -> None:
    """In the audit log itself, since there is no database here. Of many changes the first are named."""
    changes, unresolved = [*logs.changes, *tasks.changes], [*logs.unresolved, *tasks.unresolved]
    details = {
        "changes": len(changes),
        "done": changes[:NAMED],
        "differences_left": len(unresolved),
        "left": unresolved[:NAMED],
    }
    record = AuditRecorded(
        actor=OPERATOR, action="topology.applied", target="topology", details=details, trace_id=telemetry.get_trace_id()
    )
    bus = KafkaBus(KafkaServers.from_settings(kernel), "caravan topology")
    await bus.start()
    try:
        await bus.publish(
            [
                encode_message(
                    record,
                    AUDIT,
                    key="topology",
                    source="cli",
                    time=utc_now(),
                    traceparent=telemetry.traceparent.get(),
                    actor=OPERATOR,
                )
            ]
        )
    except PublishError as error:
        raise BrokerUnavailable(
            f"the topology is as declared, and the audit log doesn't know of it: {error}"
        ) from error
    finally:
        await bus.close()


def diff_topology(allow_foreign: bool) -> None:
    kernel_settings, amqp, management = _load_broker_settings()
    desired = build_declared_topology(kernel_settings.kafka_replicas)

    async def compare_both() -> list[Difference]:
        kafka_objects, rabbit_objects = await asyncio.gather(
            kafka.observe_objects(KafkaServers.from_settings(kernel_settings), desired),
            rabbitmq.observe_objects(management, amqp),
        )
        return find_differences(desired.kafka_objects, kafka_objects) + find_differences(
            desired.rabbitmq_objects, rabbit_objects
        )

    differences = _run_or_exit(compare_both())
    for difference in differences:
        print_line(difference)
    counted_differences = [
        difference for difference in differences if difference.kind is not DriftKind.FOREIGN or not allow_foreign
    ]
    print_line(
        f"{len(desired.kafka_objects) + len(desired.rabbitmq_objects)} declared, {len(counted_differences)} differences"
    )
    raise typer.Exit(DRIFT_EXIT_CODE if counted_differences else 0)


def render_topology(replicas: int) -> None:
    print_document(
        yaml.safe_dump_all(build_resources(build_declared_topology(replicas)), sort_keys=False, explicit_start=True)
    )


def _load_broker_settings() -> tuple[Settings, str, str]:
    """The settings, with the AMQP URL and that of the management API (empty: derived)."""
    telemetry.configure_logs("warning", "text")
    kernel_settings = load_kernel_settings()
    if not kernel_settings.kafka_url or kernel_settings.rabbitmq_url is None:
        exit_with_error(
            "set CARAVAN_KAFKA_URL and CARAVAN_RABBITMQ_URL: without them topics and queues are kept in Postgres, and "
            "there is no topology to speak of"
        )
    management = (
        kernel_settings.rabbitmq_management_url.get_secret_value() if kernel_settings.rabbitmq_management_url else ""
    )
    return kernel_settings, kernel_settings.rabbitmq_url.get_secret_value(), management


def _run_or_exit(action: Coroutine[Any, Any, T]) -> T:
    try:
        return uvloop.run(action)
    except (TopologyError, StartTimeout) as error:
        exit_with_error(str(error))
