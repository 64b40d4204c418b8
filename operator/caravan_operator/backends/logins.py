"""Builds a broker's client from a connection and the Secrets that it names. Secrets are fetched by name and kept
nowhere but in the client.
"""

import base64
import hashlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from confluent_kafka import KafkaException

from caravan_operator.backends.broker import Broker, BrokerUnavailable, Fence
from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.backends.management import RabbitLogin
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.resources.kinds import SERVERS_ANNOTATION
from caravan_operator.resources.names import UnusableSpec, build_path
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason

log = logging.getLogger(__name__)

Secrets = Mapping[str, Mapping[str, str]]
"""Name of a Secret to those of its values that a connection may use, in base64."""
_KEYS = ("username", "password", "ca.crt", "tls.crt", "tls.key")
"""The keys that are read: the kind of the reference determines them, never the connection."""


async def fetch_secrets(kubernetes: Kubernetes, connection: Resource) -> Secrets:
    """The Secrets that the connection refers to, each meant for its servers. Raises BrokerUnavailable naming one that
    isn't there or isn't meant.
    """
    secrets = {}
    for name in sorted(_find_secret_names(connection.spec)):
        try:
            secret = await kubernetes.get(
                build_path("api", "v1", "namespaces", connection.key.namespace, "secrets", name)
            )
        except ApiError as error:
            problem = "isn't there" if error.status == 404 else f"can't be read ({error.status})"
            raise BrokerUnavailable(
                Reason.SECRET_NOT_FOUND, f"Secret {connection.key.namespace}/{name} {problem}"
            ) from None
        except UnusableSpec as error:
            raise BrokerUnavailable(Reason.INVALID, f"the name of a Secret: {error}") from None
        _check_allowed_servers(connection, name, secret)
        data = secret.get("data") or {}
        secrets[name] = {key: data[key] for key in _KEYS if key in data}
    return secrets


def list_servers(connection: Resource) -> list[str]:
    """The servers that a connection's Secrets are sent to, as their annotation must name them."""
    if connection.key.kind == "RabbitMQConnection":
        return [connection.spec["managementUrl"].rstrip("/").lower()]
    return [server.lower() for server in connection.spec["bootstrapServers"]]


def _check_allowed_servers(connection: Resource, name: str, secret: Mapping[str, Any]) -> None:
    annotation = str(((secret.get("metadata") or {}).get("annotations") or {}).get(SERVERS_ANNOTATION, ""))
    allowed = {server.strip().rstrip("/").lower() for server in annotation.split(",")}
    missing = [server for server in list_servers(connection) if server not in allowed]
    if missing:
        message = (
            f"Secret {connection.key.namespace}/{name} is not meant for {', '.join(missing)}: "
            f"who may change it lists the servers in its annotation {SERVERS_ANNOTATION}"
        )
        raise BrokerUnavailable(Reason.SECRET_NOT_ALLOWED, message)


def compute_fingerprint(connection: Resource, secrets: Secrets) -> str:
    """A hash over spec and Secrets: it changes when something was rotated, and reveals nothing of it."""
    text = json.dumps([connection.spec, secrets], sort_keys=True)
    return hashlib.sha256(f"{connection.uid}{text}".encode()).hexdigest()[:16]


async def connect_broker(connection: Resource, secrets: Secrets, fence: Fence) -> Broker:
    """Raises BrokerUnavailable when the client's library can't use the values."""
    try:
        return await _CONNECTORS[connection.key.kind](connection, secrets, fence)
    except (ValueError, OSError, KafkaException) as error:
        log.warning(
            "no client from these Secrets",
            extra={"connection": connection.key.namespaced_name, "error": type(error).__name__},
        )
        message = (
            "no client can be made with what the Secrets hold: a certificate or key isn't PEM, or a name or password "
            "can't be sent"
        )
        raise BrokerUnavailable(Reason.SECRET_UNUSABLE, message) from None


async def _connect_kafka(connection: Resource, secrets: Secrets, fence: Fence) -> Broker:
    security = connection.spec.get("security") or {}
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(connection.spec["bootstrapServers"]),
        "security.protocol": security.get("protocol", "PLAINTEXT"),
        "client.id": "caravan-operator",
        "socket.connection.setup.timeout.ms": 5000,
        "reconnect.backoff.max.ms": 5000,
    }
    secret_values: list[str] = []
    if "secretRef" in security:
        username, password = _read_login(security["secretRef"], secrets)
        settings |= {"sasl.mechanism": security["saslMechanism"], "sasl.username": username, "sasl.password": password}
        secret_values.append(password)
    tls = security.get("tls") or {}
    if "caSecretRef" in tls:
        settings["ssl.ca.pem"] = _decode_value(secrets, tls["caSecretRef"]["name"], "ca.crt")
    if "clientSecretRef" in tls:
        name = tls["clientSecretRef"]["name"]
        settings |= {
            "ssl.certificate.pem": _decode_value(secrets, name, "tls.crt"),
            "ssl.key.pem": _decode_value(secrets, name, "tls.key"),
        }
        secret_values.append(settings["ssl.key.pem"])
    return Kafka(KafkaLogin(settings, tuple(secret_values)), connection.spec, fence)


async def _connect_rabbitmq(connection: Resource, secrets: Secrets, fence: Fence) -> Broker:
    username, password = _read_login(connection.spec["secretRef"], secrets)
    tls: ssl.SSLContext | None = None
    ca = (connection.spec.get("tls") or {}).get("caSecretRef")
    if ca:
        tls = ssl.create_default_context(cadata=_decode_value(secrets, ca["name"], "ca.crt"))
    return RabbitMQ(RabbitLogin(connection.spec["managementUrl"], username, password, tls), connection.spec, fence)


_CONNECTORS: dict[str, Callable[[Resource, Secrets, Fence], Awaitable[Broker]]] = {
    "KafkaConnection": _connect_kafka,
    "RabbitMQConnection": _connect_rabbitmq,
}


def _read_login(ref: Mapping[str, str], secrets: Secrets) -> tuple[str, str]:
    name = ref["name"]
    return _decode_value(secrets, name, "username"), _decode_value(secrets, name, "password")


def _decode_value(secrets: Secrets, name: str, key: str) -> str:
    try:
        return base64.b64decode(secrets[name][key]).decode()
    except KeyError:
        raise BrokerUnavailable(Reason.SECRET_NOT_FOUND, f"Secret {name} has no key {key}") from None
    except ValueError:
        raise BrokerUnavailable(Reason.SECRET_UNUSABLE, f"key {key} of Secret {name} holds no text in UTF-8") from None


def _find_secret_names(spec: Any) -> set[str]:
    """Names in every `...secretRef` of the spec, at any depth."""
    if not isinstance(spec, Mapping):
        return set()
    names = {value["name"] for field, value in spec.items() if field.lower().endswith("secretref")}
    return names.union(*(_find_secret_names(value) for value in spec.values()))
