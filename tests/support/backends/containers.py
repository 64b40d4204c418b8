"""Brokers in containers: by `docker`, where an engine answers and the image is there or can be pulled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.backends import Broker, Unavailable
from tests.support.backends.ready import free_ports, kafka_answers, rabbitmq_version, run, wait

KAFKA_IMAGE = "apache/kafka:4.3.1"
RABBITMQ_IMAGE = "rabbitmq:4-management"
IMAGES = {"kafka": KAFKA_IMAGE, "rabbitmq": RABBITMQ_IMAGE}


def ready(image: str) -> None:
    """Make sure that an engine answers and has this image. Raises Unavailable."""
    run(["docker", "info"], 5)
    try:
        run(["docker", "image", "inspect", image], 5)
    except Unavailable:
        run(["docker", "pull", "--quiet", image], 150)


@contextmanager
def container(name: str, folder: Path) -> Iterator[Broker]:
    ready(IMAGES[name])
    with _kafka(folder) if name == "kafka" else _rabbitmq(folder) as broker:
        yield broker


@contextmanager
def _running(image: str, options: list[str]) -> Iterator[str]:
    label = f"caravan-tests-{image.partition(':')[0].replace('/', '-')}-{os.getpid()}"
    run(["docker", "run", "--detach", "--rm", "--name", label, *options, image], 30)
    try:
        yield label
    finally:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", label],
            capture_output=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )


def _runs(label: str) -> bool:
    try:
        return run(["docker", "inspect", "--format", "{{.State.Running}}", label], 10).strip() == "true"
    except Unavailable:
        return False


def kafka_options(port: int) -> list[str]:
    """A node of its own that is reached at 127.0.0.1:port from here and from inside."""
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "HEAP_OPTS": "-Xmx384m",
    }
    return [f"--publish=127.0.0.1:{port}:{port}", *(f"--env=KAFKA_{key}={value}" for key, value in settings.items())]


def rabbitmq_options(amqp: int, management: int) -> list[str]:
    return [
        f"--publish=127.0.0.1:{amqp}:5672",
        f"--publish=127.0.0.1:{management}:15672",
        "--env=RABBITMQ_DEFAULT_USER=caravan",
        "--env=RABBITMQ_DEFAULT_PASS=caravan",
    ]


@contextmanager
def _kafka(_: Path) -> Iterator[Broker]:
    (port,) = free_ports(1)
    with _running(KAFKA_IMAGE, kafka_options(port)) as label:
        url = f"127.0.0.1:{port}"
        wait(KAFKA_IMAGE, lambda: kafka_answers(url), lambda: _runs(label))
        yield Broker("kafka", url, f"container {KAFKA_IMAGE}")


@contextmanager
def _rabbitmq(_: Path) -> Iterator[Broker]:
    amqp, management = free_ports(2)
    with _running(RABBITMQ_IMAGE, rabbitmq_options(amqp, management)) as label:
        url = f"http://caravan:caravan@127.0.0.1:{management}"
        wait(RABBITMQ_IMAGE, lambda: bool(rabbitmq_version(url)), lambda: _runs(label))
        yield Broker(
            "rabbitmq",
            f"amqp://caravan:caravan@127.0.0.1:{amqp}/",
            f"container {RABBITMQ_IMAGE}",
            url,
            rabbitmq_version(url),
        )
