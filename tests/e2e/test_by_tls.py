"""The whole shop and every command on databases and brokers that take TLS connections alone: whoever connected without
would not get in, and is counted.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from caravan import embedded
from tests.support.backends import Unavailable
from tests.support.backends.secure import PASSWORD, USER, SecureKafka, SecureRabbitMQ, secure_kafka, secure_rabbitmq
from tests.support.certificates import Authority
from tests.support.program import ROOT, Program, build_environment, launch_caravan
from tests.support.tls_tunnel import TlsTunnel, connect_to, open_tunnel

pytestmark = pytest.mark.slow

COMMAND_SECONDS = 120
MASTER_SECRET = "a secret of more than thirty-two characters"


@dataclass(frozen=True)
class Backends:
    folder: Path
    tunnels: dict[str, TlsTunnel]
    settings: dict[str, str]


@pytest.fixture(scope="module")
def brokers(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[SecureKafka, SecureRabbitMQ]]:
    folder = tmp_path_factory.mktemp("brokers")
    try:
        with secure_kafka(folder, authority) as kafka, secure_rabbitmq(folder, authority) as rabbitmq:
            yield kafka, rabbitmq
    except Unavailable as reason:
        pytest.skip(f"no brokers with TLS: {reason}")


@pytest.fixture(scope="module")
async def backends(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, brokers: tuple[SecureKafka, SecureRabbitMQ]
) -> AsyncIterator[Backends]:
    folder = tmp_path_factory.mktemp("tls")
    async with _start_databases(folder, authority) as (tunnels, urls):
        yield Backends(folder, tunnels, {**urls, **_build_settings(folder, authority, *brokers)})


@asynccontextmanager
async def _start_databases(
    folder: Path, authority: Authority
) -> AsyncIterator[tuple[dict[str, TlsTunnel], dict[str, str]]]:
    """Postgres and Redis from wheels speak no TLS: each has a server before it that does."""
    server = authority.write_certificate(folder / "server", "localhost")
    async with embedded.start(folder / "data", secret=MASTER_SECRET, announce=lambda _: None) as started:
        postgres, redis = urlsplit(started.database_url), urlsplit(started.redis_url)

        with ExitStack() as stack:
            tunnels = {
                "postgres": stack.enter_context(
                    open_tunnel(
                        lambda: connect_to(started.database_url), server, is_postgres=True, asks_certificate=True
                    )
                ),
                "redis": stack.enter_context(open_tunnel(lambda: connect_to(started.redis_url), server)),
                "jobs": stack.enter_context(
                    open_tunnel(lambda: connect_to(started.redis_url), server, asks_certificate=True)
                ),
            }
            yield (
                tunnels,
                {
                    "CARAVAN_DATABASE_URL": (
                        f"postgresql://{postgres.username}:{postgres.password}@localhost:{tunnels['postgres'].port}"
                        "/postgres"
                    ),
                    "CARAVAN_REDIS_URL": f"rediss://:{redis.password}@localhost:{tunnels['redis'].port}/0",
                    "CARAVAN_JOBS_REDIS_URL": f"rediss://:{redis.password}@localhost:{tunnels['jobs'].port}/1",
                },
            )


def _build_settings(folder: Path, authority: Authority, kafka: SecureKafka, rabbitmq: SecureRabbitMQ) -> dict[str, str]:
    certificates = folder / "certificates"
    for name in ("database", "jobs-redis", "rabbitmq"):
        authority.write_certificate(certificates / name)
    for name in ("redis", "kafka"):
        authority.write_ca(certificates / name)
    return {
        "CARAVAN_CERTIFICATES": str(certificates),
        "CARAVAN_SECRET": MASTER_SECRET,
        "CARAVAN_KAFKA_URL": kafka.login_address,
        "CARAVAN_KAFKA_PROTOCOL": "SASL_SSL",
        "CARAVAN_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "CARAVAN_KAFKA_USERNAME": USER,
        "CARAVAN_KAFKA_PASSWORD": PASSWORD,
        "CARAVAN_RABBITMQ_URL": rabbitmq.url,
        "CARAVAN_RABBITMQ_MANAGEMENT_URL": rabbitmq.management_url,
        "CARAVAN_DECLARE": "false",
        "CARAVAN_MIGRATE": "false",
    }


async def run_command(backends: Backends, *arguments: str) -> str:
    """What a command prints that ends well."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        cwd=ROOT,
        env=build_environment(backends.folder / "shop", **backends.settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    output, _ = await asyncio.wait_for(command.communicate(), COMMAND_SECONDS)
    assert command.returncode == 0, f"{arguments}: {output.decode()}"
    return output.decode()


async def test_the_whole_shop_and_every_command_connect_by_tls(backends: Backends) -> None:
    folder = backends.folder / "shop"
    printed = [await run_command(backends, "migrate"), await run_command(backends, "topology", "apply")]
    process, url = await launch_caravan(["run", "all"], backends.settings, folder, "all")
    program = Program(url, folder, [process], secret=MASTER_SECRET)
    try:
        who, sku = await program.register_customer(), await program.create_product(stock=3)
        order = (await program.place_order(who, sku)).json()["id"]
        await program.wait_for_status(who, order, "delivered", seconds=60)
        for command in (
            ("status",),
            ("topology", "diff", "--allow-foreign"),
            ("jobs", "queues"),
            ("jobs", "list"),
            ("failures", "list", "--url", url),
            ("projections", "rebuild", "order_summary"),
        ):
            printed.append(await run_command(backends, *command))
    finally:
        await program.stop()
    printed.append((folder / "all.log").read_text())
    assert not any(PASSWORD in text for text in printed)
    assert {name: tunnel.plain_count for name, tunnel in backends.tunnels.items()} == dict.fromkeys(backends.tunnels, 0)
    assert all(tunnel.tls_count for tunnel in backends.tunnels.values())
