"""One client per connection and generation of its credentials, behind a breaker: while a broker is away nobody waits for its timeout."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caravan_operator.backends import logins
from caravan_operator.backends.broker import Broker, BrokerAway, Fence
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import CIRCUIT
from caravan_operator.status.reasons import Reason

SECRETS_FRESH = 30.0
"""Seconds after which the Secrets are read again: a rotated password is used within this time, or at once when the old one is refused."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


@dataclass(slots=True)
class Opened:
    broker: Broker
    hash: str
    version: tuple[str, int]
    read_at: float


@dataclass(slots=True)
class _Circuit:
    failures: int
    until: float
    error: BrokerAway


class Connections:
    def __init__(self, kubernetes: Kubernetes, fence: Fence, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._fence = fence
        self._clock = clock
        self._opened: dict[Key, Opened] = {}
        self._circuits: dict[Key, _Circuit] = {}

    async def open(self, connection: Resource) -> Opened:
        """The client, made anew when spec or Secrets have changed. Raises BrokerAway, at once while the circuit is open."""
        key = connection.key
        circuit = self._circuits.get(key)
        version = (connection.uid, connection.generation)
        opened = self._opened.get(key)
        changed = opened is None or opened.version != version
        if circuit is not None and self._clock() < circuit.until and not (opened is not None and changed):
            raise circuit.error
        if opened is not None and not changed and self._clock() - opened.read_at < SECRETS_FRESH:
            return opened
        found = await logins.secrets(self._kubernetes, connection)
        digest = logins.fingerprint(connection, found)
        if opened is not None and opened.hash == digest:
            opened.read_at, opened.version = self._clock(), version
            return opened
        fresh = Opened(await logins.connect(connection, found, self._fence), digest, version, self._clock())
        await self._close(key)
        self._opened[key] = fresh
        return fresh

    async def check(self, connection: Resource) -> tuple[Opened, dict[str, Any]]:
        """Ask the broker who it is: facts for the status. Raises BrokerAway."""
        opened = await self.open(connection)
        return opened, await opened.broker.check()

    def failed(self, key: Key, error: BrokerAway) -> float:
        """Open the circuit; returns the pause until the next trial, in seconds. Refused credentials are read again at the next trial."""
        circuit = self._circuits.get(key)
        if circuit is not None and self._clock() < circuit.until:
            return circuit.until - self._clock()
        failures = circuit.failures + 1 if circuit else 1
        pause = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE) * random.uniform(0.7, 1.3)
        self._circuits[key] = _Circuit(failures, self._clock() + pause, error)
        if error.reason is Reason.CREDENTIALS_REFUSED and key in self._opened:
            self._opened[key].read_at = -SECRETS_FRESH
        self._count()
        return pause

    def succeeded(self, key: Key) -> bool:
        """Close the circuit; returns whether it was open."""
        was_open = self._circuits.pop(key, None) is not None
        self._count()
        return was_open

    async def forget(self, key: Key) -> None:
        """The connection is gone."""
        self._circuits.pop(key, None)
        await self._close(key)

    async def close(self) -> None:
        for key in [*self._opened]:
            await self._close(key)

    async def _close(self, key: Key) -> None:
        opened = self._opened.pop(key, None)
        if opened is not None:
            await opened.broker.close()

    def _count(self) -> None:
        for kind in ("KafkaConnection", "RabbitMQConnection"):
            CIRCUIT.labels(kind).set(sum(key.kind == kind for key in self._circuits))
