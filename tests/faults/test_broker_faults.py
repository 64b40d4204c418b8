"""The whole shop on Kafka, RabbitMQ, Redis and Postgres, a process per service: whatever is killed, and whatever is
read again, nothing is lost or counted twice.
"""

import asyncio
import random
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caravan.runtime import Backends
from services.registry import SERVICES
from tests.faults.books import books, differences
from tests.faults.brokers_watched import OnBrokers
from tests.faults.fleet import SECRET, Customers, Fleet, fleet
from tests.faults.invariants import at_rest, violations
from tests.faults.repeating import Repeating
from tests.faults.servers import Server, Servers, servers
from tests.support.kafka_tools import build_tool_command
from tests.support.scenario import run_whole_shop
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow

REST_SECONDS = 120
"""I2: so long after the last thing was healed, every accepted order has ended."""
KILLS, CUSTOMERS, UNAVAILABLE_SECONDS = 10, 4, 4.0


@pytest.fixture(scope="module")
async def four() -> AsyncIterator[Servers]:
    async with servers() as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def wire(four: Servers) -> OnBrokers:
    return OnBrokers(Backends(four.postgres.url, four.redis.url, SECRET), four.kafka.url, four.rabbitmq.url)


async def rest(backends: Backends, wire: OnBrokers, accepted: set[str]) -> None:
    """Everything comes to rest in time, and every invariant holds."""
    began = time.monotonic()

    async def resting() -> bool:
        left = await at_rest(backends, wire)
        assert left == "", left
        return True

    await wait_until(resting, seconds=REST_SECONDS, every=1.0)
    print(f"{len(accepted)} orders at rest {time.monotonic() - began:.1f} s after healing")
    assert await violations(backends, accepted, wire) == []


async def test_every_message_five_times_on_brokers(four: Servers, data: Path, wire: OnBrokers) -> None:
    backends = Backends(four.postgres.url, four.redis.url, SECRET)
    urls = {"kafka_url": four.kafka.url, "rabbitmq_url": four.rabbitmq.url, "rabbitmq_management_url": four.console}
    async with run_whole_shop(backends, data, wrap=Repeating, **urls) as scenario:
        await scenario.run_scenario()
        await scenario.wait_for_ends()
        await rest(backends, wire, set(scenario.orders))


@pytest.fixture(scope="module")
async def shop(four: Servers, data: Path) -> AsyncIterator[Fleet]:
    async with fleet(data, four) as running:
        yield running


@pytest.fixture
async def customers(shop: Fleet) -> AsyncIterator[Customers]:
    """Some people who keep ordering; the seed of what they choose, and of what is killed, is printed."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    people = Customers(shop, random.Random(seed))
    await people.come(CUSTOMERS)
    yield people
    await people.leave()


async def healed(shop: Fleet, wire: OnBrokers, customers: Customers) -> None:
    await customers.ordered(5)
    await customers.go_home()
    await rest(shop.backends, wire, customers.accepted)
    assert customers.contradictions == []


async def test_any_service_may_be_killed_ten_times_at_random(
    shop: Fleet, wire: OnBrokers, customers: Customers
) -> None:
    for _ in range(KILLS):
        await customers.ordered(customers.chance.randint(1, 5))
        name = customers.chance.choice(SERVICES)
        print(f"killed {name} after {len(customers.accepted)} orders")
        await shop.kill(name)
        await shop.start(name)
    await healed(shop, wire, customers)


@pytest.mark.parametrize("name", ["kafka", "rabbitmq", "redis", "postgres"])
async def test_a_server_may_be_killed_and_come_back(
    shop: Fleet, wire: OnBrokers, customers: Customers, name: str
) -> None:
    server: Server = getattr(shop.servers, name)
    await customers.ordered(10)
    await server.kill()
    await asyncio.sleep(UNAVAILABLE_SECONDS)  # the length of the fault, not a wait for something
    await server.start()
    await healed(shop, wire, customers)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


async def test_all_topics_read_again_by_reset_groups_change_nothing(
    shop: Fleet, wire: OnBrokers, customers: Customers
) -> None:
    tool = build_tool_command("kafka-consumer-groups", shop.servers.kafka.url)
    await customers.ordered(20)
    await healed(shop, wire, customers)
    before = await books(shop.backends, shop.data)
    await shop.stop_all()

    async def nobody_reads() -> bool:
        done = await asyncio.to_thread(
            _run, [*tool, "--all-groups", "--all-topics", "--reset-offsets", "--to-earliest", "--execute"]
        )
        assert "Error" not in done, done
        return True

    await wait_until(nobody_reads, seconds=60, every=1.0)
    assert await wire.unread() > 500
    await shop.start_all()
    await rest(shop.backends, wire, customers.accepted)
    assert differences(before, await books(shop.backends, shop.data)) == []
