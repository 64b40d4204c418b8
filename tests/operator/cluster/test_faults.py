"""What must not happen when things break: unavailable brokers, rotated passwords, refusals of the API server, a paused
leader, a killed process.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka, SideRabbit, open_relay
from tests.operator.cluster.faulty_api import serve_faulty_api
from tests.operator.cluster.kinds import KAFKA, QUEUE, RABBIT, TOPIC
from tests.support.backends import Broker
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow


UNAVAILABLE_SECONDS = float(os.environ.get("TEST_BROKER_UNAVAILABLE_SECONDS", "0"))
"""How long a broker is unavailable at least; what the test waits for meanwhile takes about 40 s."""


@pytest.fixture
async def alone(connected: Namespace) -> AsyncIterator[OperatorProcess]:
    """An operator for one test."""
    running = OperatorProcess(connected.name, "--sweep", "3", "--deletion-wait", "10")
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def test_an_unavailable_broker_holds_up_nobody_else_and_no_deletion_for_ever(
    alone: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, rabbitmq: Broker, name: str
) -> None:
    url = urlsplit(rabbitmq.management_url)
    async with open_relay(f"{url.hostname}:{url.port}") as wire:
        address = f"http://127.0.0.1:{wire.port}"
        await connected.put_secret(name, address, username=url.username or "", password=url.password or "")
        spec = {
            "managementUrl": address,
            "allowInsecure": True,
            "secretRef": {"name": name},
            "requestTimeout": "2s",
        }
        await connected.create_object("RabbitMQConnection", name, spec)
        ref = {"connectionRef": {"name": name}}
        await connected.create_object(QUEUE, name, {**ref, "deletionPolicy": "Delete"})
        await connected.create_object(QUEUE, f"{name}-later", {**ref, "limits": {"maxLength": 1}})
        await connected.wait_until_ready(QUEUE, name, seconds=40)
        await connected.wait_until_ready(QUEUE, f"{name}-later")
        await wire.cut_connections()
        gone = time.monotonic()
        await connected.wait_for_reason("RabbitMQConnection", name, "Unreachable", seconds=30)
        started = time.monotonic()
        await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1})
        await connected.wait_until_ready(TOPIC, name, seconds=10)
        assert time.monotonic() - started < 10, "Kafka waits for RabbitMQ"
        await connected.change_spec(QUEUE, f"{name}-later", {"limits": {"maxLength": 2}})
        await connected.wait_for_reason(QUEUE, f"{name}-later", "Unreachable", seconds=30)
        await connected.delete_object(QUEUE, name)
        await connected.wait_until_gone(QUEUE, name, seconds=60)
        assert await rabbit_side.get_queue(name) is not None, "a broker that can't be asked keeps its queue"
        assert "RetainedAfterWait" in {reason for reason, _ in await connected.list_events(name)}
        await asyncio.sleep(
            gone + UNAVAILABLE_SECONDS - time.monotonic()
        )  # the length of the fault, not a wait for something
        await wire.start_listening()
        await connected.wait_until_ready(QUEUE, f"{name}-later", seconds=60)
        assert (await rabbit_side.get_policy(f"caravan.queue.{name}-later"))["definition"] == {"max-length": 2}


async def test_a_rotated_password_is_used_without_a_restart_and_seen_nowhere(
    alone: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, rabbitmq: Broker, name: str
) -> None:
    url = urlsplit(rabbitmq.management_url)
    first, second = f"first-{uuid4().hex}", f"second-{uuid4().hex}"

    async def password(value: str) -> None:
        await rabbit_side.call_api("PUT", "users", name, body={"password": value, "tags": "administrator"})

    await password(first)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    await rabbit_side.call_api("PUT", "permissions", "/", name, body=everything)
    await connected.put_secret(name, f"http://{url.hostname}:{url.port}", username=name, password=first)
    spec: dict[str, Any] = {"managementUrl": f"http://{url.hostname}:{url.port}", "allowInsecure": True}
    spec["secretRef"] = {"name": name}
    await connected.create_object("RabbitMQConnection", name, spec)
    await connected.create_object(QUEUE, name, {"connectionRef": {"name": name}})
    before = await connected.wait_until_ready(QUEUE, name, seconds=40)
    await password(second)
    await connected.wait_for_reason("RabbitMQConnection", name, "CredentialsRefused", seconds=40)
    await connected.put_secret(name, password=second)
    await connected.wait_until_ready("RabbitMQConnection", name, seconds=60)
    await connected.change_spec(QUEUE, name, {"limits": {"maxLength": 1}})
    after = await connected.wait_until_ready(QUEUE, name)
    assert after["status"]["connectionHash"] != before["status"]["connectionHash"]
    all_output = (
        alone.read_log()
        + str(await connected.list_objects("RabbitMQConnection"))
        + str(await connected.list_objects(QUEUE))
        + str(await connected.list_events(name))
    )
    assert first not in all_output
    assert second not in all_output


async def test_with_a_third_of_the_api_calls_refused_everything_converges(
    connected: Namespace, kafka_side: SideKafka, tmp_path: Path, name: str
) -> None:
    async with serve_faulty_api(0.3, tmp_path) as (api, kubeconfig):
        running = OperatorProcess(connected.name, "--sweep", "5", kubeconfig=kubeconfig)
        supervisor = asyncio.create_task(running.keep_running())
        try:
            for number in range(20):
                await connected.create_object(
                    TOPIC, f"{name}-{number}", {**KAFKA, "partitions": 1, "deletionPolicy": "Delete"}
                )
            for number in range(20):
                await connected.wait_until_ready(TOPIC, f"{name}-{number}", seconds=120)
            for number in range(10):
                await connected.change_spec(TOPIC, f"{name}-{number}", {"config": {"retention": "1h"}})
                await connected.delete_object(TOPIC, f"{name}-{number + 10}")
            for number in range(10):
                await connected.wait_until_ready(TOPIC, f"{name}-{number}", seconds=120)
                assert await kafka_side.read_setting(f"{name}-{number}", "retention.ms") == "3600000"
                await connected.wait_until_gone(TOPIC, f"{name}-{number + 10}", seconds=120)
            assert await kafka_side.list_topics(f"{name}-") == sorted(f"{name}-{number}" for number in range(10))
            assert api.refused_count > 0.2 * api.passed_count
        finally:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
            await running.stop()


async def test_a_watch_that_falls_silent_is_opened_again(
    connected: Namespace, kafka_side: SideKafka, tmp_path: Path, name: str
) -> None:
    async with serve_faulty_api(0.0, tmp_path) as (api, kubeconfig):
        running = OperatorProcess(connected.name, kubeconfig=kubeconfig)
        await running.start()
        try:
            await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1})
            await connected.wait_until_ready(TOPIC, name, seconds=40)
            assert api.watches
            api.silence_watches()
            silent = time.monotonic()
            await connected.create_object(TOPIC, f"{name}-later", {**KAFKA, "partitions": 1})
            await connected.change_spec(TOPIC, name, {"config": {"retention": "1h"}})
            await connected.wait_until_ready(TOPIC, f"{name}-later", seconds=120)
            await connected.wait_until_ready(TOPIC, name)
            assert await kafka_side.read_setting(name, "retention.ms") == "3600000"
            print(f"heard again {time.monotonic() - silent:.0f} s after the watches fell silent")
            assert running.process is not None and running.process.returncode is None, "without a restart"
        finally:
            await running.stop()


async def test_nothing_is_done_before_everything_has_been_seen(
    connected: Namespace, kafka_side: SideKafka, tmp_path: Path, name: str
) -> None:
    async with serve_faulty_api(0.0, tmp_path) as (api, kubeconfig):
        api.withheld_plural = "rabbitmqqueues"
        await connected.create_object(QUEUE, name, {**RABBIT})
        await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1})
        running = OperatorProcess(connected.name, kubeconfig=kubeconfig)
        await running.start()
        try:

            async def topic_is_known() -> bool:
                return 'watch_events_total{kind="KafkaTopic"}' in (await running.get_probe("metrics"))[1]

            await wait_until(topic_is_known, seconds=40, every=0.2)
            assert await running.get_probe("readyz") == (503, "the caches are being filled")
            with pytest.raises(AssertionError):
                await connected.wait_until_ready(TOPIC, name, seconds=3)
            assert await kafka_side.list_topics(name) == []
            api.release_list.set()
            await connected.wait_until_ready(TOPIC, name, seconds=20)
            await connected.wait_until_ready(QUEUE, name)
        finally:
            await running.stop()


async def test_a_paused_leader_writes_nothing_after_it_was_replaced(
    connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    leader, standby = OperatorProcess(connected.name, "--sweep", "1"), OperatorProcess(connected.name, "--sweep", "1")
    await leader.start()
    try:
        await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1, "config": {"retention": "1h"}})
        await connected.wait_until_ready(TOPIC, name, seconds=40)
        await standby.start()
        await wait_until(lambda: _logged(standby, "waiting for the Lease"), seconds=30)
        leader.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        for number in range(10):
            await connected.create_object(TOPIC, f"{name}-{number}", {**KAFKA, "partitions": 1})
        await wait_until(lambda: _logged(standby, '"leading"'), seconds=30)
        assert time.monotonic() - stopped < 20
        await connected.change_spec(TOPIC, name, {"config": {"retention": "2h"}})
        await connected.wait_until_ready(TOPIC, name, seconds=40)
        written = leader.read_log().count('"applied"')
        await kafka_side.set_config(
            name, "retention.ms", "5"
        )  # a sweep of either would put it back, the paused one to the old value
        leader.send_signal(signal.SIGCONT)
        assert leader.process is not None
        async with asyncio.timeout(20):
            assert await leader.process.wait() == 1
        assert leader.read_log().count('"applied"') == written
        assert "the Lease is lost" in leader.read_log()
        for number in range(10):
            await connected.wait_until_ready(TOPIC, f"{name}-{number}")

        async def is_restored() -> bool:
            return await kafka_side.read_setting(name, "retention.ms") == "7200000"

        await wait_until(is_restored, seconds=20, every=0.2)
    finally:
        await leader.kill()
        await standby.stop()


async def _logged(operator: OperatorProcess, text: str) -> bool:
    return text in operator.read_log()
