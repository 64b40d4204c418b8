"""`docker compose up --wait` says the truth, with the whole shop in containers. E2E_COMPOSE=1 asks for it: it builds
the image and takes minutes.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PROJECT = "caravan-compose-test"
PORTS = (
    "CARAVAN_PORT",
    "MAIL_PORT",
    "POSTGRES_PORT",
    "KAFKA_PORT",
    "RABBITMQ_PORT",
    "RABBITMQ_MANAGEMENT_PORT",
    "CACHE_PORT",
    "JOBS_PORT",
    "SMTP_PORT",
)

pytestmark = pytest.mark.skipif(os.environ.get("E2E_COMPOSE") != "1", reason="E2E_COMPOSE=1 asks for it")


def compose(*arguments: str, files: tuple[str, ...] = (), seconds: float = 1500) -> subprocess.CompletedProcess[str]:
    selected = [word for file in ("compose.yaml", *files) for word in ("--file", file)]
    environment = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": PROJECT,
        **{port: str(23000 + number) for number, port in enumerate(PORTS)},
    }
    command = ["docker", "compose", "--project-directory", str(ROOT), *selected, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    compose("down", "--volumes", "--timeout", "5")


def states() -> dict[str, Any]:
    lines = compose("ps", "--all", "--format", "json").stdout.splitlines()
    return {line["Service"]: line for line in map(json.loads, lines)}


def test_it_ends_with_0_when_all_is_healthy_and_the_shop_is_filled() -> None:
    done = compose("up", "--detach", "--wait", "--wait-timeout", "900")
    assert done.returncode == 0, done.stderr[-3000:]
    found = states()
    assert found["seed"]["ExitCode"] == 0
    assert found["seed"]["State"] == "exited"
    running = {name: line["Health"] for name, line in found.items() if line["State"] == "running" and name != "seeded"}
    assert set(running.values()) == {"healthy"} and len(running) == 17, running


def test_a_second_start_of_the_same_shop_ends_with_0() -> None:
    done = compose("up", "--detach", "--wait", "--wait-timeout", "600")
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_order_goes_through() -> None:
    done = compose("exec", "gateway", "caravan", "demo", "--seconds", "120")
    assert done.returncode == 0, done.stdout + done.stderr


TRIED = """
import asyncio, http.client, json, pathlib
from base64 import b64encode
from urllib.parse import urlsplit
import aio_pika, asyncpg
from redis.asyncio import Redis

HELD = pathlib.Path("/run/secrets")
PASSWORDS = {path.read_text().strip() for path in HELD.rglob("*") if path.is_file()}
URLS = {path.name: path.read_text().strip() for path in HELD.glob("*_URL")}
PASSWORDS |= {urlsplit(url).password for url in URLS.values()}
opened = []

async def tried(what, doing):
    try:
        await doing
        opened.append(what)
    except Exception as error:
        print(what, type(error).__name__, str(error)[:100])

async def database(name, user, password):
    await (await asyncpg.connect(host="postgres", user=user, password=password, database=name)).close()

async def amqp(url, doing):
    connection = await aio_pika.connect(url)
    async with connection:
        await doing(await connection.channel())

async def read(channel):
    await (await channel.get_queue("inventory.reserve-stock", ensure=False)).consume(print)

async def management(user, password):
    asked = http.client.HTTPConnection("rabbitmq", 15672, timeout=5)
    credentials = b64encode(f"{user}:{password}".encode()).decode()
    asked.request("GET", "/api/queues", headers={"authorization": "Basic " + credentials})
    assert (answer := asked.getresponse()).status == 200, answer.status

async def main():
    for password in PASSWORDS:
        await tried("database postgres", database("postgres", "postgres", password))
        for name in ("identity", "orders", "payments", "catalog"):
            await tried(f"database {name}", database(f"caravan_{name}", f"caravan_{name}", password))
        for user in ("caravan", "shop", "guest"):
            await tried(f"management as {user}", management(user, password))
        for user in ("caravan", "shop", "guest", "inventory", "orders"):
            address = f"amqp://{user}:{password}@rabbitmq:5672/"
            await tried(f"queues as {user}", amqp(address, lambda channel: channel.close()))
        for server in ("cache", "jobs"):
            await tried(f"{server} by default", Redis(host=server, password=password).ping())
    urls = [URLS["CARAVAN_REDIS_URL"], URLS["CARAVAN_JOBS_REDIS_URL"]]
    for url, other in (urls, reversed(urls)):
        others = url.replace("@" + urlsplit(url).hostname, "@" + urlsplit(other).hostname)
        await tried("the other Redis", Redis.from_url(others).ping())
        for command in ("CONFIG GET *", "FLUSHALL", "ACL LIST", "KEYS *", "MONITOR", "SHUTDOWN"):
            await tried(command, Redis.from_url(url).execute_command(*command.split()))
        assert await Redis.from_url(url).set("tried", "1", ex=1), "what is its own still opens"
    own = URLS["CARAVAN_RABBITMQ_URL"]
    await tried("delete a queue", amqp(own, lambda channel: channel.queue_delete("orders.import")))
    await tried("read another's queue", amqp(own, read))
    await tried("declare a queue", amqp(own, lambda channel: channel.declare_queue("tried")))
    await amqp(URLS["CARAVAN_RABBITMQ_URL"], lambda channel: channel.close())

asyncio.run(main())
print(json.dumps(sorted(opened)))
"""


@pytest.mark.parametrize(
    ("service", "own"), [("catalog", ["database catalog"]), ("gateway", []), ("payments", ["database payments"])]
)
def test_what_a_service_knows_opens_its_own_database_and_no_other_nor_any_administration(
    service: str, own: list[str]
) -> None:
    done = compose("exec", "--no-TTY", service, "python", "-c", TRIED)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == own, done.stdout


def test_it_ends_otherwise_when_the_shop_could_not_be_filled(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text('services: {seed: {command: [seed, --url, "http://nowhere:8080"], restart: "no"}}\n')
    done = compose("up", "--detach", "--wait", "--wait-timeout", "600", files=(str(broken),))
    assert done.returncode != 0
    assert "seed" in done.stderr
