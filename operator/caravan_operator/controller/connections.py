"""One client per connection and version of its credentials, behind a circuit breaker: while a broker is unavailable
nothing waits for its timeout.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caravan_operator.backends import logins
from caravan_operator.backends.broker import Broker, BrokerUnavailable, Fence
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import OPEN_CIRCUITS
from caravan_operator.status.reasons import Reason

SECRETS_MAX_AGE = 30.0
"""Seconds after which the Secrets are read again: a rotated password is used within this time, or at once when the old
one is refused.
"""
MIN_PAUSE, MAX_PAUSE = 1.0, 30.0


@dataclass(slots=True)
class BrokerClient:
    broker: Broker
    fingerprint: str
    spec_version: tuple[str, int]
    read_at: float


@dataclass(slots=True)
class _Circuit:
    failures: int
    open_until: float
    error: BrokerUnavailable


class Connections:
    def __init__(self, kubernetes: Kubernetes, fence: Fence, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._fence = fence
        self._clock = clock
        self._clients: dict[Key, BrokerClient] = {}
        self._circuits: dict[Key, _Circuit] = {}

    async def open_client(self, connection: Resource) -> BrokerClient:
        """The client; a new one when spec or Secrets have changed. Raises BrokerUnavailable, at once while the circuit
        is open.
        """
        key = connection.key
        circuit = self._circuits.get(key)
        spec_version = (connection.uid, connection.generation)
        client = self._clients.get(key)
        is_changed = client is None or client.spec_version != spec_version
        if circuit is not None and self._clock() < circuit.open_until and not (client is not None and is_changed):
            raise circuit.error
        if client is not None and not is_changed and self._clock() - client.read_at < SECRETS_MAX_AGE:
            return client
        secrets = await logins.fetch_secrets(self._kubernetes, connection)
        fingerprint = logins.compute_fingerprint(connection, secrets)
        if client is not None and client.fingerprint == fingerprint:
            client.read_at, client.spec_version = self._clock(), spec_version
            return client
        replacement = BrokerClient(
            await logins.connect_broker(connection, secrets, self._fence), fingerprint, spec_version, self._clock()
        )
        await self._close_client(key)
        self._clients[key] = replacement
        return replacement

    async def check_broker(self, connection: Resource) -> tuple[BrokerClient, dict[str, Any]]:
        """Ask the broker for its identity: the client, and fields for the status. Raises BrokerUnavailable."""
        client = await self.open_client(connection)
        return client, await client.broker.check_health()

    def record_failure(self, key: Key, error: BrokerUnavailable) -> float:
        """Open the circuit; returns the pause until the next trial, in seconds. Refused credentials are read again at
        the next trial.
        """
        circuit = self._circuits.get(key)
        if circuit is not None and self._clock() < circuit.open_until:
            return circuit.open_until - self._clock()
        failures = circuit.failures + 1 if circuit else 1
        pause = min(MIN_PAUSE * 2.0 ** min(failures - 1, 20), MAX_PAUSE) * random.uniform(0.7, 1.3)
        self._circuits[key] = _Circuit(failures, self._clock() + pause, error)
        if error.reason is Reason.CREDENTIALS_REFUSED and key in self._clients:
            self._clients[key].read_at = -SECRETS_MAX_AGE
        self._update_metrics()
        return pause

    def record_success(self, key: Key) -> bool:
        """Close the circuit; returns whether it was open."""
        was_open = self._circuits.pop(key, None) is not None
        self._update_metrics()
        return was_open

    async def drop_connection(self, key: Key) -> None:
        """Close the client of a connection that was deleted."""
        self._circuits.pop(key, None)
        await self._close_client(key)

    async def close(self) -> None:
        for key in [*self._clients]:
            await self._close_client(key)

    async def _close_client(self, key: Key) -> None:
        client = self._clients.pop(key, None)
        if client is not None:
            await client.broker.close()

    def _update_metrics(self) -> None:
        for kind in ("KafkaConnection", "RabbitMQConnection"):
            OPEN_CIRCUITS.labels(kind).set(sum(key.kind == kind for key in self._circuits))
