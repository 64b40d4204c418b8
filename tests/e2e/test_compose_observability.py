"""`docker compose --profile observability up` shows the whole shop within two minutes of its start: metrics of
every service, and the traces and lines of an order. E2E_COMPOSE=observability asks for it: it builds the image and
takes minutes.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.registry import SERVICES
from tests.e2e.observability import Stores
from tests.support.shop import wait_until

ROOT = Path(__file__).parent.parent.parent
PORTS = {"prometheus": 24001, "alertmanager": 24002, "loki": 24003, "jaeger": 24004}
OTHERS = ("CARAVAN", "MAIL", "POSTGRES", "KAFKA", "RABBITMQ", "RABBITMQ_MANAGEMENT", "CACHE", "JOBS", "SMTP")
SEEN_SECONDS = 120

pytestmark = pytest.mark.skipif(
    os.environ.get("E2E_COMPOSE") != "observability", reason="E2E_COMPOSE=observability asks for it"
)


def compose(*arguments: str, seconds: float = 1500) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": "caravan-compose-observability",
        **{f"{part.upper()}_PORT": str(port) for part, port in PORTS.items()},
        **{f"{name}_PORT": str(24010 + number) for number, name in enumerate(OTHERS)},
    }
    command = ["docker", "compose", "--profile", "observability", "--project-directory", str(ROOT), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[None]:
    up = compose("up", "--detach", "--wait", "--wait-timeout", "900")
    assert up.returncode == 0, up.stderr[-3000:]
    demo = compose("exec", "gateway", "caravan", "demo", "--seconds", "120")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    yield
    compose("down", "--volumes", "--timeout", "5")


@pytest.fixture
def stores() -> Stores:
    return Stores({part: f"http://127.0.0.1:{port}" for part, port in PORTS.items()})


async def test_metrics_of_every_service_are_there(stores: Stores) -> None:
    async def are_up() -> bool:
        up = {labels["job"]: value for labels, value in await stores.measure("min by (job) (up)")}
        expected = {*SERVICES, "rabbitmq", "rabbitmq-queues", "collector", "spans", *PORTS}
        assert up == dict.fromkeys(expected, 1.0), sorted(expected ^ up.keys()) or up
        requests = await stores.measure("sum by (service) (http_server_request_duration_seconds_count)")
        assert {labels["service"] for labels, _ in requests} >= {"gateway", "orders", "catalog", "identity"}
        return True

    await wait_until(are_up, seconds=SEEN_SECONDS, every=2)


async def test_an_order_left_traces_and_every_rule_is_loaded(stores: Stores) -> None:
    async def is_traced() -> bool:
        assert "caravan-orders" in await stores.list_traced_services()
        unhealthy = [rule["name"] for rule in await stores.list_rules() if rule["health"] != "ok"]
        assert not unhealthy, unhealthy
        return True

    await wait_until(is_traced, seconds=SEEN_SECONDS, every=2)


async def test_lines_of_the_services_are_in_one_place(stores: Stores) -> None:
    async def are_read() -> bool:
        assert await stores.read_logs('{service_namespace="caravan"}')
        return True

    await wait_until(are_read, seconds=SEEN_SECONDS, every=2)
