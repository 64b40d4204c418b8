"""Observes queues, exchanges, bindings and policies through RabbitMQ's management API, in bulk, and writes only
differences. Nothing is deleted.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aio_pika
import httpx2
from aio_pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelNotFoundEntity,
    ProbableAuthenticationError,
)
from yarl import URL

from caravan.bus.opening import finish_opening
from caravan.bus.topology import (
    POLICY_PREFIX,
    BrokerObject,
    BrokerUnavailable,
    ObjectRef,
    RabbitBinding,
    RabbitExchange,
    RabbitPolicy,
    RabbitQueue,
    Topology,
    TopologyError,
)
from caravan.bus.topology.drift import ApplyResult, Difference, DriftKind, find_differences
from caravan.http_client import HttpClient
from caravan.tls import CertificateFiles, explain_failure, get_url_context, suggest_certificate

_REQUEST_SECONDS = 15
_PAGE_SIZE = 500
_CONCURRENT_REQUESTS = 8


def _derive_management_url(amqp: str) -> str:
    """The management API beside this AMQP address, on its usual port, with the same user."""
    url = httpx2.URL(amqp)
    secure = url.scheme == "amqps"
    return str(url.copy_with(scheme="https" if secure else "http", port=15671 if secure else 15672, path="/"))


def _parse_vhost(amqp: str) -> str:
    path = httpx2.URL(amqp).path
    return path[1:] or "/"


class _ManagementClient:
    """The management API of one virtual host. Its user needs the tag `management` and the right to configure."""

    def __init__(self, http: HttpClient, vhost: str, certificates: CertificateFiles) -> None:
        self._http = http
        self._certificates = certificates
        self._vhost = quote(vhost, safe="")
        self._slots = asyncio.Semaphore(_CONCURRENT_REQUESTS)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, amqp: str) -> "AsyncIterator[_ManagementClient]":
        """`url`: of the management API, by default (empty) derived from `amqp`."""
        management_address = httpx2.URL(url or _derive_management_url(amqp))
        # The password goes into a header and never into a line of a log.
        auth = (
            (management_address.username, management_address.password)
            if management_address.username
            else (httpx2.URL(amqp).username or "guest", httpx2.URL(amqp).password or "guest")
        )
        address_without_user = management_address.copy_with(username=None, password=None, query=None)
        verify = get_url_context(str(management_address)) or True
        async with HttpClient(
            base_url=address_without_user, auth=auth, timeout=_REQUEST_SECONDS, verify=verify
        ) as http:
            yield cls(http, _parse_vhost(amqp), CertificateFiles.from_url(str(management_address)))

    async def _send_request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        address = str(self._http.base_url)
        async with self._slots:
            try:
                response = await self._http.request(method, path, json=body)
            except httpx2.HTTPError as error:
                if failure := explain_failure(error, "CARAVAN_RABBITMQ_MANAGEMENT_URL", self._certificates):
                    raise BrokerUnavailable(f"RabbitMQ's management API at {address}: {failure}") from None
                raise BrokerUnavailable(
                    f"RabbitMQ's management API at {address} doesn't answer ({type(error).__name__}): enable the "
                    "plugin rabbitmq_management, or name it with "
                    "CARAVAN_RABBITMQ_MANAGEMENT_URL, or let somebody else own the queues with CARAVAN_DECLARE=false"
                ) from None
        if response.status_code == 401:
            raise TopologyError(
                f"RabbitMQ's management API at {address} refuses this user: it needs the tag `management`"
            )
        if response.status_code >= 400:
            raise TopologyError(f"RabbitMQ: {method} {path}: {response.status_code} {response.text[:300]}")
        return response.json() if method == "GET" else None

    async def _fetch_all_pages(self, collection: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        page = 1
        while True:
            response = await self._send_request(
                "GET", f"api/{collection}/{self._vhost}?page={page}&page_size={_PAGE_SIZE}&disable_stats=true"
            )
            items += response["items"]
            if page >= response["page_count"]:
                return items
            page += 1

    async def observe_objects(self) -> dict[ObjectRef, BrokerObject]:
        """All that is in the virtual host but the broker's own exchanges and bindings, and policies that carry no
        queue's limits.
        """
        queues, exchanges = await asyncio.gather(self._fetch_all_pages("queues"), self._fetch_all_pages("exchanges"))
        bindings, policies = await asyncio.gather(
            self._send_request("GET", f"api/bindings/{self._vhost}"),
            self._send_request("GET", f"api/policies/{self._vhost}"),
        )
        objects: list[BrokerObject] = [
            RabbitPolicy(
                policy["name"], policy["pattern"], policy["definition"], policy["priority"], policy["apply-to"]
            )
            for policy in policies
            if policy["name"].startswith(POLICY_PREFIX)
        ]
        objects += [
            RabbitExchange(exchange["name"], exchange["type"])
            for exchange in exchanges
            if exchange["name"] and not exchange["name"].startswith("amq.")
        ]
        objects += [_ObservedQueue.from_response(queue) for queue in queues if not queue.get("exclusive")]
        objects += [
            RabbitBinding(binding["source"], binding["destination"], binding["routing_key"])
            for binding in bindings
            if binding["source"] and binding["destination_type"] == "queue"
        ]
        return {declared_object.object_ref: declared_object for declared_object in objects}

    async def declare_object(self, declared_object: BrokerObject) -> None:
        """Declare it; on what exists with other facts only a policy changes, and the rest is refused by the broker."""
        match declared_object:
            case RabbitPolicy():
                body = {
                    "pattern": declared_object.pattern,
                    "definition": dict(declared_object.definition),
                    "priority": declared_object.priority,
                    "apply-to": declared_object.apply_to,
                }
                await self._send_request(
                    "PUT", f"api/policies/{self._vhost}/{quote(declared_object.name, safe='')}", body
                )
            case RabbitExchange():
                await self._send_request(
                    "PUT",
                    f"api/exchanges/{self._vhost}/{quote(declared_object.name, safe='')}",
                    {"type": declared_object.type, "durable": True},
                )
            case RabbitQueue():
                await self._send_request(
                    "PUT",
                    f"api/queues/{self._vhost}/{quote(declared_object.name, safe='')}",
                    {"durable": True, "arguments": dict(declared_object.arguments)},
                )
            case RabbitBinding():
                ends = f"e/{quote(declared_object.exchange, safe='')}/q/{quote(declared_object.queue, safe='')}"
                await self._send_request(
                    "POST", f"api/bindings/{self._vhost}/{ends}", {"routing_key": declared_object.pattern}
                )


class _ObservedQueue:
    """A queue as the broker has it: which policy applies is its choice."""

    def __init__(self, name: str, properties: Mapping[str, str | int | bool]) -> None:
        self.object_ref = ObjectRef("queue", name)
        self.properties = properties

    @classmethod
    def from_response(cls, queue: Mapping[str, Any]) -> "_ObservedQueue":
        properties = {"x-queue-type": queue.get("type", "classic"), **queue["arguments"]}
        return cls(queue["name"], properties | ({"policy": queue["policy"]} if queue.get("policy") else {}))


def describe_failure(amqp: str, error: BaseException) -> str:
    """Why RabbitMQ can't be reached, with the setting to look at."""
    if isinstance(error, AuthenticationError | ProbableAuthenticationError):
        return f"RabbitMQ refuses the user or the password of CARAVAN_RABBITMQ_URL: {error}"
    files = CertificateFiles.from_url(amqp)
    if failure := explain_failure(error, "CARAVAN_RABBITMQ_URL", files):
        return f"RabbitMQ can't be reached: {failure}"
    # What aiormq raises for a connection that the server ended.
    has_ended = isinstance(error, AMQPConnectionError) and "reset" in str(error)
    suggestion = f"; {suggest_certificate(files)}" if has_ended and amqp.startswith("amqps:") else ""
    return f"RabbitMQ can't be reached: {error!r}{suggestion}"


async def find_missing(amqp: str, declared: Topology) -> list[ObjectRef]:
    """The declared queues and exchanges that are not there; asked over AMQP, since a service needs no access to the
    management API.
    """
    missing_refs: list[ObjectRef] = []
    async with aio_pika.Connection(
        URL(amqp), ssl_context=get_url_context(amqp)
    ) as connection:  # which closes it also when it can't be opened
        await finish_opening(connection.connect(_REQUEST_SECONDS))
        for ref in [
            *(exchange.object_ref for exchange in declared.exchanges),
            *(queue.object_ref for queue in declared.queues),
        ]:
            channel = await connection.channel()  # the broker closes it when it says no
            try:
                declare = channel.declare_queue if ref.kind == "queue" else channel.declare_exchange
                await declare(ref.name, passive=True)
            except ChannelNotFoundEntity:
                missing_refs.append(ref)
            finally:
                await channel.close()
    return missing_refs


async def observe_objects(url: str, amqp: str) -> dict[ObjectRef, BrokerObject]:
    async with _ManagementClient.open(url, amqp) as management:
        return await management.observe_objects()


async def apply_topology(url: str, amqp: str, declared: Topology) -> ApplyResult:
    """Make what is missing, and set policies as declared."""
    if not declared.rabbitmq_objects:
        return ApplyResult()
    async with _ManagementClient.open(url, amqp) as management:
        differences = find_differences(declared.rabbitmq_objects, await management.observe_objects())
        refs_to_apply = [difference.object_ref for difference in differences if _can_apply(difference)]
        # Policies and exchanges first: a queue lives by its policy from its first message on.
        for kinds in (("policy", "exchange"), ("queue",), ("binding",)):
            await asyncio.gather(
                *(
                    management.declare_object(declared.rabbitmq_objects[ref])
                    for ref in refs_to_apply
                    if ref.kind in kinds
                )
            )
    return ApplyResult(
        tuple(map(_describe_change, filter(_can_apply, differences))),
        tuple(filter(None, map(_explain_unresolved, differences))),
    )


def _describe_change(difference: Difference) -> str:
    return (
        f"{difference.object_ref.kind} {difference.object_ref.name}: "
        f"{'created' if difference.kind is DriftKind.MISSING else 'changed'}"
    )


def _can_apply(difference: Difference) -> bool:
    return difference.kind is DriftKind.MISSING or (
        difference.kind is DriftKind.DIFFERENT and difference.object_ref.kind == "policy"
    )


def _explain_unresolved(difference: Difference) -> str:
    if _can_apply(difference) or difference.kind is DriftKind.FOREIGN:
        return ""
    # Without a policy until now, it has got its own by this very pass.
    properties = {name: values for name, values in difference.properties.items() if name != "policy" or values[0]}
    if not properties:
        return ""
    how = (
        "remove the other policy or rank it lower"
        if set(properties) == {"policy"}
        else "drain it, delete it, and apply again"
    )
    return f"{Difference(difference.kind, difference.object_ref, properties)}: {how}"
