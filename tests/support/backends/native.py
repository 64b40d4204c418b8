"""Brokers from native packages, as nodes of our own in the run's folder on free ports: Debian's rabbitmq-server, and
Kafka's jars on a Java runtime.

`install.py` puts the packages there.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.backends import Broker, Unavailable
from tests.support.backends.ready import free_ports, kafka_answers, rabbitmq_version, run, wait

KAFKA_VERSION = "4.3.1"
JARS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "caravan-tests" / f"kafka-{KAFKA_VERSION}"
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the one in the PATH: that is a wrapper which only root and the system's own user may call."""


@contextmanager
def native(name: str, folder: Path) -> Iterator[Broker]:
    place = folder / f"{name}-native"
    place.mkdir()
    with _kafka(place) if name == "kafka" else _rabbitmq(place) as broker:
        yield broker


@contextmanager
def _program(arguments: list[str], place: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, ended by SIGTERM, and by SIGKILL when that takes too long."""
    with (place / "server.log").open("ab") as log:
        process = subprocess.Popen(
            arguments, cwd=place, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _kafka(place: Path) -> Iterator[Broker]:
    if not shutil.which("java") or not any(JARS.glob("kafka_*.jar")):
        raise Unavailable("Kafka's jars or a Java runtime are missing (make brokers)")
    client, controller = free_ports(2)
    (place / "server.properties").write_text(
        "process.roles=broker,controller\n"
        "node.id=1\n"
        f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}\n"
        "controller.listener.names=CONTROLLER\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        f"log.dirs={place / 'logs'}\n"
        "offsets.topic.replication.factor=1\n"
        "offsets.topic.num.partitions=4\n"
        "transaction.state.log.replication.factor=1\n"
        "transaction.state.log.min.isr=1\n"
        "group.initial.rebalance.delay.ms=0\n"
        "auto.create.topics.enable=false\n"
    )
    java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-cp", f"{JARS}/*"]
    run(
        [
            *java,
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            "MkU3OEVBNTcwNTJENDM2Qg",
            "--config",
            str(place / "server.properties"),
        ],
        60,
    )
    with _program([*java, "kafka.Kafka", str(place / "server.properties")], place, {}) as server:
        url = f"127.0.0.1:{client}"
        wait("Kafka", lambda: kafka_answers(url), lambda: server.poll() is None)
        yield Broker("kafka", url, f"native Kafka {KAFKA_VERSION}")


@contextmanager
def _rabbitmq(place: Path) -> Iterator[Broker]:
    if not RABBITMQ.exists():
        raise Unavailable("the package rabbitmq-server is missing (make brokers)")
    amqp, management, distribution, names = free_ports(4)
    (place / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
        "management.tcp.ip = 127.0.0.1\n"
        f"management.tcp.port = {management}\n"
        "default_user = caravan\n"
        "default_pass = caravan\n"
    )
    (place / "plugins").write_text("[rabbitmq_management].\n")
    environment = {
        "HOME": str(place),  # for the cookie
        "RABBITMQ_NODENAME": f"caravan-tests-{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
        "RABBITMQ_LOG_BASE": str(place / "log"),
        "RABBITMQ_LOGS": "-",
    }
    # Erlang's name server would outlive the node as a daemon: run it ourselves, on a port of its own.
    with _program(["epmd"], place, environment), _program([str(RABBITMQ)], place, environment) as server:
        url = f"http://caravan:caravan@127.0.0.1:{management}"
        wait("rabbitmq-server", lambda: bool(rabbitmq_version(url)), lambda: server.poll() is None)
        version = rabbitmq_version(url)
        yield Broker(
            "rabbitmq", f"amqp://caravan:caravan@127.0.0.1:{amqp}/", f"native rabbitmq-server {version}", url, version
        )
