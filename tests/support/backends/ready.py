"""Waits until a broker that was just started answers."""

import asyncio
import random
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import httpx2
from aiokafka.admin import AIOKafkaAdminClient

from tests.support.backends import Unavailable

Alive = Callable[[], bool]
LASTING_PORTS = range(15_000, 32_000)
"""Below those that Linux (from 32,768) and macOS (from 49,152) give to outgoing connections."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now. Another process may take one before we do; then the start fails, and says so."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return ports


def find_lasting_ports(count: int) -> list[int]:
    """Free ports that outgoing connections aren't given by the system, so that a server finds its own again after a
    restart.
    """
    found: list[int] = []
    for port in random.sample(LASTING_PORTS, len(LASTING_PORTS)):
        if len(found) < count:
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                found.append(port)
    return found


def wait(what: str, answers: Callable[[], bool], alive: Alive, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not answers():
        if not alive():
            raise Unavailable(f"{what} ended while it started")
        if time.monotonic() > end:
            raise Unavailable(f"{what} didn't answer within {seconds:g} s")
        time.sleep(0.2)


def kafka_answers(url: str) -> bool:
    async def ask() -> None:
        host, _, port = url.partition(":")
        (await asyncio.open_connection(host, int(port)))[
            1
        ].close()  # quiet while nothing listens; the client would log an error
        admin = AIOKafkaAdminClient(bootstrap_servers=url, request_timeout_ms=3000)
        try:
            await admin.start()
            await admin.list_topics()
        finally:
            await admin.close()

    try:
        asyncio.run(asyncio.wait_for(ask(), 5))
        return True
    except Exception:  # whatever it is, it is not ready
        return False


def rabbitmq_version(management_url: str) -> str:
    """The version when it answers, else nothing."""
    try:
        answer = httpx2.get(f"{management_url}/api/overview", timeout=3)
        return str(answer.json()["rabbitmq_version"]) if answer.status_code == 200 else ""
    except (httpx2.HTTPError, ValueError, KeyError):
        return ""


def run(arguments: list[str], seconds: float) -> str:
    """A command's output. Raises Unavailable when it fails, is not there, or takes too long."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise Unavailable(f"no {arguments[0]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{' '.join(arguments[:3])}` took over {seconds:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Unavailable(f"`{' '.join(arguments[:3])}` failed: {lines[-1][:200]}")
    return done.stdout
