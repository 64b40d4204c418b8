"""From a connection and the Secrets that it names to what a client needs. Secrets are fetched by name and never kept beside the client."""

import base64
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from caravan_operator.backends.broker import Broker, BrokerAway, Fence
from caravan_operator.backends.kafka import Kafka, KafkaLogin
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.backends.rabbitmq import RabbitLogin, RabbitMQ
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason

Secrets = Mapping[str, Mapping[str, str]]
"""Name of a Secret to its decoded values."""


async def secrets(kubernetes: Kubernetes, connection: Resource) -> Secrets:
    """The Secrets that the connection refers to. Raises BrokerAway naming one that isn't there."""
    found = {}
    for name in sorted(_names(connection.spec)):
        try:
            secret = await kubernetes.get(f"/api/v1/namespaces/{connection.key.namespace}/secrets/{name}")
        except ApiError as error:
            why = "isn't there" if error.status == 404 else f"can't be read ({error.status})"
            raise BrokerAway(Reason.SECRET_NOT_FOUND, f"Secret {connection.key.namespace}/{name} {why}") from None
        found[name] = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
    return found


def fingerprint(connection: Resource, found: Secrets) -> str:
    """A hash over spec and Secrets: it tells that something was rotated, and not what."""
    text = json.dumps([connection.spec, found], sort_keys=True)
    return hashlib.sha256(f"{connection.uid}{text}".encode()).hexdigest()[:16]


async def connect(connection: Resource, found: Secrets, fence: Fence) -> Broker:
    return await _CLIENTS[connection.key.kind](connection, found, fence)


async def _kafka(connection: Resource, found: Secrets, fence: Fence) -> Broker:
    security = connection.spec.get("security") or {}
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(connection.spec["bootstrapServers"]),
        "security.protocol": security.get("protocol", "PLAINTEXT"),
        "client.id": "caravan-operator",
        "socket.connection.setup.timeout.ms": 5000,
        "reconnect.backoff.max.ms": 5000,
    }
    hidden: list[str] = []
    if "secretRef" in security:
        username, password = _login(security["secretRef"], found)
        settings |= {"sasl.mechanism": security["saslMechanism"], "sasl.username": username, "sasl.password": password}
        hidden.append(password)
    tls = security.get("tls") or {}
    if "caSecretRef" in tls:
        settings["ssl.ca.pem"] = _value(found, tls["caSecretRef"]["name"], tls["caSecretRef"].get("key", "ca.crt"))
    if "clientSecretRef" in tls:
        name = tls["clientSecretRef"]["name"]
        settings |= {"ssl.certificate.pem": _value(found, name, "tls.crt"), "ssl.key.pem": _value(found, name, "tls.key")}
        hidden.append(settings["ssl.key.pem"])
    return Kafka(KafkaLogin(settings, tuple(hidden)), connection.spec, fence)


async def _rabbitmq(connection: Resource, found: Secrets, fence: Fence) -> Broker:
    username, password = _login(connection.spec["secretRef"], found)
    tls: ssl.SSLContext | None = None
    ca = (connection.spec.get("tls") or {}).get("caSecretRef")
    if ca:
        tls = ssl.create_default_context(cadata=_value(found, ca["name"], ca.get("key", "ca.crt")))
    return RabbitMQ(RabbitLogin(connection.spec["managementUrl"], username, password, tls), connection.spec, fence)


_CLIENTS: dict[str, Callable[[Resource, Secrets, Fence], Awaitable[Broker]]] = {"KafkaConnection": _kafka, "RabbitMQConnection": _rabbitmq}


def _login(ref: Mapping[str, str], found: Secrets) -> tuple[str, str]:
    name = ref["name"]
    return _value(found, name, ref.get("usernameKey", "username")), _value(found, name, ref.get("passwordKey", "password"))


def _value(found: Secrets, name: str, key: str) -> str:
    try:
        return found[name][key]
    except KeyError:
        raise BrokerAway(Reason.SECRET_NOT_FOUND, f"Secret {name} has no key {key}") from None


def _names(spec: Any) -> set[str]:
    """Names in every `...secretRef` of the spec, at any depth."""
    if not isinstance(spec, Mapping):
        return set()
    names = {value["name"] for field, value in spec.items() if field.lower().endswith("secretref")}
    return names.union(*(_names(value) for value in spec.values()))
