"""Brokers from native packages, as nodes of our own in the run's folder on free ports: Debian's rabbitmq-server, and
Kafka's jars on a Java runtime.

`install.py` puts the packages there.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.backends import Broker, Unavailable
from tests.support.backends.ready import free_ports, kafka_answers, rabbitmq_version, run, wait

KAFKA_VERSION = "4.3.1"
JARS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "caravan-tests" / f"kafka-{KAFKA_VERSION}"
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the one in the PATH: that is a wrapper which only root and the system's own user may call."""
FAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib/faketime/libfaketimeMT.so.1")
"""Where distributions have the library that shifts the clock of a process."""


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


def find_faketime() -> Path | None:
    return next((path for pattern in FAKETIME for path in Path("/").glob(pattern)), None)


def find_kafka_command() -> list[str]:
    """Java with Kafka's classes. Raises Unavailable where one of them is missing."""
    if not shutil.which("java") or not any(JARS.glob("kafka_*.jar")):
        raise Unavailable("Kafka's jars or a Java runtime are missing (make brokers NATIVE=yes)")
    return ["java", "-Xmx384m", "-XX:+UseSerialGC", "-cp", f"{JARS}/*"]


@contextmanager
def _kafka(place: Path) -> Iterator[Broker]:
    find_kafka_command()
    client, controller = free_ports(2)
    url = f"127.0.0.1:{client}"
    properties = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://{url},CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    with run_kafka(place, properties, lambda: kafka_answers(url)):
        yield Broker("kafka", url, f"native Kafka {KAFKA_VERSION}")


def prepare_kafka(place: Path, properties: Mapping[str, str], *, scram_users: Sequence[str] = ()) -> list[str]:
    """The command of a node with these listeners that keeps its data in `place`; what is there already stays."""
    configuration = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(place / "logs"),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        **properties,
    }
    file = place / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in configuration.items()))
    java = find_kafka_command()
    users = [part for user in scram_users for part in ("--add-scram", user)]
    storage = ["format", "--ignore-formatted", "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg", "--config", str(file)]
    run([*java, "kafka.tools.StorageTool", *storage, *users], 60)
    return [*java, "kafka.Kafka", str(file)]


@contextmanager
def run_kafka(
    place: Path, properties: Mapping[str, str], answers: Callable[[], bool], *, scram_users: Sequence[str] = ()
) -> Iterator[None]:
    """A node with these listeners, when it answers."""
    with _program(prepare_kafka(place, properties, scram_users=scram_users), place, {}) as server:
        wait("Kafka", answers, lambda: server.poll() is None)
        yield


def require_rabbitmq() -> None:
    """Raises Unavailable where the package is missing."""
    if not RABBITMQ.exists():
        raise Unavailable("the package rabbitmq-server is missing (make brokers NATIVE=yes)")


@contextmanager
def _rabbitmq(place: Path) -> Iterator[Broker]:
    require_rabbitmq()
    amqp, management = free_ports(2)
    configuration = {
        "listeners.tcp.1": f"127.0.0.1:{amqp}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": str(management),
        "default_user": "caravan",
        "default_pass": "caravan",
    }
    url = f"http://caravan:caravan@127.0.0.1:{management}"
    with run_rabbitmq(place, configuration, lambda: bool(rabbitmq_version(url))):
        version = rabbitmq_version(url)
        yield Broker(
            "rabbitmq", f"amqp://caravan:caravan@127.0.0.1:{amqp}/", f"native rabbitmq-server {version}", url, version
        )


def prepare_rabbitmq(place: Path, configuration: Mapping[str, str], distribution: int, names: int) -> dict[str, str]:
    """The environment of a node with these listeners that keeps its data in `place`, and of the programs that talk to
    it. `distribution`, `names`: ports of its own and of its name server.
    """
    (place / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in configuration.items()))
    (place / "plugins").write_text("[rabbitmq_management].\n")
    return {
        "HOME": str(place),  # for the cookie
        "RABBITMQ_NODENAME": f"caravan-tests-{distribution}@localhost",
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


@contextmanager
def run_rabbitmq(place: Path, configuration: Mapping[str, str], answers: Callable[[], bool]) -> Iterator[None]:
    """A node with these listeners, when it answers."""
    environment = prepare_rabbitmq(place, configuration, *free_ports(2))
    # Erlang's name server would outlive the node as a daemon: run it ourselves, on a port of its own.
    with _program(["epmd"], place, environment), _program([str(RABBITMQ)], place, environment) as server:
        wait("rabbitmq-server", answers, lambda: server.poll() is None)
        yield
