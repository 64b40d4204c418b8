"""Every service in its own process on Kafka and RabbitMQ: a day replayed, one service joining alone, and services that
are there before their brokers.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from services.registry import SERVICES
from tests.support.backends import Unavailable
from tests.support.backends.ready import free_ports
from tests.support.backends.shop import shop_brokers
from tests.support.forks import Process
from tests.support.program import ROOT, Program, build_environment, launch_caravan, run_process_per_service
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow

DAY = Path(os.environ.get("TEST_REPLAY_CSV", ROOT / "tests" / "cli" / "data" / "day.csv"))
"""Invoice lines in the format of `caravan replay`; another file is a longer test."""
REPLAY_SECONDS = 1200


@pytest.fixture(scope="module")
async def brokers() -> AsyncIterator[dict[str, str]]:
    async with AsyncExitStack() as stack:
        try:
            settings = await stack.enter_async_context(shop_brokers())
        except Unavailable as reason:
            pytest.skip(str(reason))
        yield settings


@pytest.fixture(scope="module")
async def shop(
    brokers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Program, dict[str, str]]]:
    async with run_process_per_service(tmp_path_factory.mktemp("shop"), **brokers) as program:
        yield program, brokers


async def caravan(shop: tuple[Program, dict[str, str]], *arguments: str) -> str:
    """What a command prints that ends well."""
    program, brokers = shop
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        cwd=ROOT,
        env=build_environment(program.data, **brokers),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    output, _ = await asyncio.wait_for(command.communicate(), REPLAY_SECONDS)
    assert command.returncode == 0, output.decode()
    return output.decode()


async def test_a_replayed_day_has_no_difference(shop: tuple[Program, dict[str, str]]) -> None:
    print(await caravan(shop, "replay", str(DAY), "--url", shop[0].url))


async def test_the_status_counts_what_waits_on_the_brokers(shop: tuple[Program, dict[str, str]]) -> None:
    async def quiet() -> bool:
        report = json.loads(await caravan(shop, "status", "--output", "json"))
        assert report.keys() == set(SERVICES) and all("url" in row for row in report.values()), report
        assert not any(row["waiting"] or row["outbox"] or row["dead letters"] for row in report.values()), report
        return True

    await wait_until(quiet, seconds=60, every=1)


async def test_each_announcement_has_its_queues_and_they_are_read_to_the_end(
    shop: tuple[Program, dict[str, str]],
) -> None:
    program, brokers = shop
    who, sku = await program.register_customer(), await program.create_product(stock=1)
    order = (await program.place_order(who, sku)).json()["id"]
    await program.wait_for_status(who, order, "delivered")
    vhost = httpx2.URL(brokers["CARAVAN_RABBITMQ_URL"]).path.strip("/")
    async with httpx2.AsyncClient(base_url=brokers["CARAVAN_RABBITMQ_MANAGEMENT_URL"]) as management:

        async def read() -> bool:
            for service in ("payments", "inventory", "notifications"):
                queue = (await management.get(f"/api/queues/{vhost}/{service}.orders")).raise_for_status().json()
                assert (queue["consumers"], queue.get("messages")) == (1, 0), queue
            return True

        await wait_until(read, seconds=20, every=0.5)


async def test_the_system_tells_what_each_group_and_queue_reads(shop: tuple[Program, dict[str, str]]) -> None:
    program, _ = shop
    who, sku = await program.register_customer(), await program.create_product(stock=1)
    staff = await program.authorize_operator()
    order = (await program.place_order(who, sku)).json()["id"]
    await program.wait_for_status(who, order, "delivered")

    async def read_to_the_end() -> bool:
        system = (await program.client.get("/v1/system", headers=staff)).raise_for_status().json()
        assert {service["name"]: service["state"] for service in system["services"]} == dict.fromkeys(SERVICES, "up")
        assert system["partial"] == []
        channels = {channel["name"]: channel for channel in system["channels"]}
        groups = {reader["group"]: reader for reader in channels["order-created"]["subscriptions"]}
        assert groups.keys() == {"analytics", "reporting", "processing", "recommendations"}
        assert all(reader["handled"]["total"] >= 1 for reader in groups.values())
        for name, channel in channels.items():
            for reader in channel["subscriptions"]:
                assert reader["waiting"] == 0, (name, reader)
                assert reader["consumers"] == (None if channel["type"] == "topic" else 1), (name, reader)
        return True

    await wait_until(read_to_the_end, seconds=60, every=1)


async def test_one_service_leaves_and_joins_alone(shop: tuple[Program, dict[str, str]]) -> None:
    program, brokers = shop
    who, sku = await program.register_customer(), await program.create_product(stock=3)
    leaving = next(
        process for process in program.processes if process.returncode is None and _runs(process, "shipping")
    )
    leaving.kill()
    await leaving.wait()
    order = (await program.place_order(who, sku)).json()["id"]
    await program.wait_for_status(who, order, "paid")
    joined, _ = await launch_caravan(["run", "shipping"], brokers, program.data, "shipping")
    program.processes.append(joined)
    await program.wait_for_status(who, order, "delivered", seconds=60)


def _runs(process: Process, service: str) -> bool:
    return Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").endswith(service.encode())


@asynccontextmanager
async def forwarder(port: int, target: str) -> AsyncIterator[None]:
    """Listens on a port from now on, and passes everything on."""
    host, _, to = target.rpartition(":")
    open_now: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(to))
        for uow in (pump(reader, back), pump(there, writer)):
            open_now.add(asyncio.create_task(uow))

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def test_a_service_that_is_there_before_its_brokers_waits_for_them_and_says_so(
    brokers: dict[str, str], tmp_path: Path
) -> None:
    kafka, rabbitmq = free_ports(2)
    amqp = httpx2.URL(brokers["CARAVAN_RABBITMQ_URL"])
    early = {
        **brokers,
        "CARAVAN_KAFKA_URL": f"127.0.0.1:{kafka}",
        "CARAVAN_RABBITMQ_URL": str(amqp.copy_with(port=rabbitmq)),
    }
    starting = asyncio.create_task(launch_caravan(["run", "shipping"], early, tmp_path, "early"))
    try:

        async def waits_for(what: str) -> bool:
            log = tmp_path / "early.log"
            return log.exists() and f"waiting: {what}" in log.read_text()

        await wait_until(lambda: waits_for(f"Kafka at 127.0.0.1:{kafka}"), seconds=60, every=0.2)
        async with forwarder(kafka, brokers["CARAVAN_KAFKA_URL"]):
            await wait_until(lambda: waits_for("RabbitMQ"), seconds=30, every=0.2)
            async with forwarder(rabbitmq, f"{amqp.host}:{amqp.port}"):
                process, url = await asyncio.wait_for(starting, 60)
                try:
                    async with httpx2.AsyncClient() as client:
                        assert (await client.get(f"{url}/livez")).status_code == 200
                finally:
                    process.terminate()
                    await asyncio.wait_for(process.wait(), 60)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def test_the_wait_has_an_end_that_names_the_broker(brokers: dict[str, str], tmp_path: Path) -> None:
    nobody = {**brokers, "CARAVAN_KAFKA_URL": "127.0.0.1:1", "CARAVAN_START_SECONDS": "1"}
    with pytest.raises(RuntimeError, match=r"ended with 2:[\s\S]*gave up after 1 s: Kafka at 127.0.0.1:1"):
        await launch_caravan(["run", "shipping"], nobody, tmp_path, "nobody")
