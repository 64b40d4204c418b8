"""`docker compose up --wait` says the truth, with the whole shop in containers. E2E_COMPOSE=1 asks for it: it builds the image and takes minutes."""

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

pytestmark = pytest.mark.skipif(not os.environ.get("E2E_COMPOSE"), reason="E2E_COMPOSE=1 asks for it")


def compose(*arguments: str, files: tuple[str, ...] = (), seconds: float = 1500) -> subprocess.CompletedProcess[str]:
    chosen = [word for file in ("compose.yaml", *files) for word in ("--file", file)]
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": PROJECT, **{port: str(23000 + number) for number, port in enumerate(PORTS)}}
    command = ["docker", "compose", "--project-directory", str(ROOT), *chosen, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False)


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
    assert found["seed"]["ExitCode"] == 0 and found["seed"]["State"] == "exited"
    running = {name: line["Health"] for name, line in found.items() if line["State"] == "running" and name != "seeded"}
    assert set(running.values()) == {"healthy"} and len(running) == 17, running


def test_a_second_start_of_the_same_shop_ends_with_0() -> None:
    done = compose("up", "--detach", "--wait", "--wait-timeout", "600")
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_order_goes_through() -> None:
    done = compose("exec", "gateway", "caravan", "demo", "--seconds", "120")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_ends_otherwise_when_the_shop_could_not_be_filled(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text('services: {seed: {command: [seed, --url, "http://nowhere:8080"], restart: "no"}}\n')
    done = compose("up", "--detach", "--wait", "--wait-timeout", "600", files=(str(broken),))
    assert done.returncode != 0 and "seed" in done.stderr
