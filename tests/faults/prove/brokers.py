"""Kafka and RabbitMQ of a proof: native processes of our own that can be killed, frozen and started again on what they
had written. Kafka has a listener for each service, which it names by the proxy before it: clients go where it tells
them to.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from services.registry import SERVICES
from tests.faults.prove.small_disk import mount_small_disk
from tests.support.backends.native import (
    RABBITMQ,
    find_kafka_command,
    prepare_kafka,
    prepare_rabbitmq,
    require_rabbitmq,
)
from tests.support.backends.ready import kafka_answers, rabbitmq_version
from tests.support.shop import wait_until

START_SECONDS = 120
STOP_SECONDS = 60
USER = "caravan:caravan"
PORTS = (
    "kafka",
    "kafka controller",
    "rabbitmq",
    "rabbitmq management",
    "rabbitmq distribution",
    "rabbitmq names",
    *(f"kafka for {service}" for service in SERVICES),
)
"""What a proof keeps ports for, beside its services and links."""
FOLDERS = ("kafka", "rabbitmq")


@dataclass
class Node:
    """One server with all its processes. `answers` says whether it serves."""

    name: str
    folder: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    answers: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it serves. What an interrupted proof has left running is ended first."""
        pid = self.folder / f"{self.name}.pid"
        if pid.exists():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if Path(psutil.Process(int(pid.read_text())).cwd()) == self.folder.resolve():
                    os.killpg(int(pid.read_text()), signal.SIGKILL)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # RabbitMQ is a shell, Erlang and its ports: they are killed and frozen as one
            )
        pid.write_text(str(self.process.pid))
        await self.wait_until_served()

    async def wait_until_served(self) -> None:
        async def serves() -> bool:
            return await asyncio.to_thread(self.answers)

        await wait_until(serves, seconds=START_SECONDS, every=0.3)

    async def wait_until_ended(self, seconds: float) -> int:
        """Its exit code, negative for a signal."""

        async def find_exit() -> tuple[int] | None:
            code = self.process.poll() if self.process else 0
            return None if code is None else (code,)

        return (await wait_until(find_exit, seconds=seconds, every=0.1))[0]

    def send_signal(self, number: signal.Signals) -> list[psutil.Process]:
        """To all of its processes, which are returned."""
        assert self.process is not None
        if self.process.poll() is not None:
            return []
        server = psutil.Process(self.process.pid)
        family = [server, *server.children(recursive=True)]
        os.killpg(self.process.pid, number)
        return family

    async def freeze(self, seconds: float) -> int:
        """How many of its processes stood still."""
        family = self.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)  # the length of the fault; not a wait for something
            return sum(each.is_running() and each.status() == psutil.STATUS_STOPPED for each in family)
        finally:
            self.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """As an operator does it, and by SIGKILL when that takes too long."""
        if self.process is None:
            return
        self.send_signal(signal.SIGTERM)
        try:
            await self.wait_until_ended(STOP_SECONDS)
        except AssertionError:
            self.send_signal(signal.SIGKILL)
            await self.wait_until_ended(STOP_SECONDS)

    def read_log(self, offset: int = 0) -> str:
        return (self.folder / f"{self.name}.log").read_bytes()[offset:].decode(errors="replace")


@dataclass
class Brokers:
    kafka: Node
    rabbitmq: Node
    kafka_url: str
    """Of Kafka itself, beside the proxies; so are the next two."""
    rabbitmq_url: str
    management_url: str

    def find(self, name: str) -> Node:
        return self.kafka if name == "kafka" else self.rabbitmq

    async def restart(self) -> None:
        for node in (self.kafka, self.rabbitmq):
            await node.stop()
            await node.start()

    async def ask_rabbitmq(self, method: str, path: str, body: Any = None) -> Any:
        """An answer of RabbitMQ's management API."""
        async with httpx2.AsyncClient(base_url=self.management_url, timeout=20) as management:
            answer = await management.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    async def control_rabbitmq(self, *arguments: str) -> None:
        """`rabbitmqctl ...`"""
        control = await asyncio.create_subprocess_exec(
            str(RABBITMQ.with_name("rabbitmqctl")),
            *arguments,
            env={**os.environ, **self.rabbitmq.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(control.communicate(), START_SECONDS)
        assert control.returncode == 0, errors.decode()[-500:]


def require_brokers() -> None:
    """Raises Unavailable, naming it, where one of them can't be had."""
    find_kafka_command()
    require_rabbitmq()


def _build_kafka(folder: Path, ports: Mapping[str, int]) -> Node:
    address = f"127.0.0.1:{ports['kafka']}"
    listeners = {"PLAINTEXT": ports["kafka"], "CONTROLLER": ports["kafka controller"]}
    listeners |= {service.upper(): ports[f"kafka for {service}"] for service in SERVICES}
    advertised = {"PLAINTEXT": ports["kafka"], **{each.upper(): ports[f"{each}>kafka"] for each in SERVICES}}
    properties = {
        "controller.quorum.voters": f"1@127.0.0.1:{ports['kafka controller']}",
        "listeners": _write_listeners(listeners),
        "advertised.listeners": _write_listeners(advertised),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "inter.broker.listener.name": "PLAINTEXT",
        "num.network.threads": "1",  # of each listener
        "log.dirs": str(folder / "logs" / "kafka"),  # not the disk itself, which has a folder lost+found
    }
    return Node("kafka", folder, prepare_kafka(folder, properties), {}, lambda: kafka_answers(address))


def _write_listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _build_rabbitmq(folder: Path, ports: Mapping[str, int], management_url: str) -> Node:
    configuration = {
        "listeners.tcp.1": f"127.0.0.1:{ports['rabbitmq']}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": str(ports["rabbitmq management"]),
        "default_user": USER.partition(":")[0],
        "default_pass": USER.partition(":")[2],
    }
    environment = prepare_rabbitmq(folder, configuration, ports["rabbitmq distribution"], ports["rabbitmq names"])
    return Node("rabbitmq", folder, [str(RABBITMQ)], environment, lambda: bool(rabbitmq_version(management_url)))


@asynccontextmanager
async def open_brokers(data: Path, ports: Mapping[str, int]) -> AsyncIterator[Brokers]:
    """Both, with what they had written before."""
    folders = [data / name for name in FOLDERS]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    management_url = f"http://{USER}@127.0.0.1:{ports['rabbitmq management']}"
    with mount_small_disk(data / "kafka.disk", folders[0] / "logs"):
        kafka = _build_kafka(folders[0], ports)
        rabbitmq = _build_rabbitmq(folders[1], ports, management_url)
        # Erlang's name server, which RabbitMQ would else start as a daemon that outlives it.
        names = Node("names", folders[1], ["epmd"], rabbitmq.environment, lambda: True)
        nodes = (names, kafka, rabbitmq)
        try:
            await names.start()
            await asyncio.gather(kafka.start(), rabbitmq.start())
            yield Brokers(
                kafka,
                rabbitmq,
                f"127.0.0.1:{ports['kafka']}",
                f"amqp://{USER}@127.0.0.1:{ports['rabbitmq']}/",
                management_url,
            )
        finally:
            for node in reversed(nodes):
                await node.stop()
