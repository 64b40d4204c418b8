"""Queues, exchanges, bindings and policies on RabbitMQ, by its management API: read in bulk, and only differences are written. Nothing is deleted."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aio_pika
import httpx2
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

from caravan.bus.opening import finish_opening
from caravan.bus.topology import (
    POLICY_PREFIX,
    BrokerAway,
    Element,
    RabbitBinding,
    RabbitExchange,
    RabbitPolicy,
    RabbitQueue,
    Thing,
    Topology,
    TopologyError,
)
from caravan.bus.topology.drift import Applied, Difference, Kind, compare

REQUEST_SECONDS = 15
PAGE = 500
AT_A_TIME = 8


def management_url(amqp: str) -> str:
    """The management API beside this AMQP address, on its usual port, with the same user."""
    url = httpx2.URL(amqp)
    secure = url.scheme == "amqps"
    return str(url.copy_with(scheme="https" if secure else "http", port=15671 if secure else 15672, path="/"))


def _vhost(amqp: str) -> str:
    path = httpx2.URL(amqp).path
    return path[1:] or "/"


class Management:
    """The management API of one virtual host. Its user needs the tag `management` and the right to configure."""

    def __init__(self, http: httpx2.AsyncClient, vhost: str) -> None:
        self._http = http
        self._vhost = quote(vhost, safe="")
        self._turns = asyncio.Semaphore(AT_A_TIME)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, amqp: str) -> "AsyncIterator[Management]":
        """`url`: of the management API, by default (empty) derived from `amqp`."""
        full = httpx2.URL(url or management_url(amqp))
        # The password goes into a header and never into a line of a log.
        auth = (
            (full.username, full.password)
            if full.username
            else (httpx2.URL(amqp).username or "guest", httpx2.URL(amqp).password or "guest")
        )
        bare = full.copy_with(username=None, password=None)
        async with httpx2.AsyncClient(base_url=bare, auth=auth, timeout=REQUEST_SECONDS) as http:
            yield cls(http, _vhost(amqp))

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        where = str(self._http.base_url)
        async with self._turns:
            try:
                answer = await self._http.request(method, path, json=body)
            except httpx2.HTTPError as error:
                raise BrokerAway(
                    f"RabbitMQ's management API at {where} doesn't answer ({type(error).__name__}): enable the plugin rabbitmq_management, or name it with "
                    "CARAVAN_RABBITMQ_MANAGEMENT_URL, or let somebody else own the queues with CARAVAN_DECLARE=false"
                ) from None
        if answer.status_code == 401:
            raise TopologyError(f"RabbitMQ's management API at {where} refuses this user: it needs the tag `management`")
        if answer.status_code >= 400:
            raise TopologyError(f"RabbitMQ: {method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if method == "GET" else None

    async def _pages(self, what: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        page = 1
        while True:
            answer = await self._ask("GET", f"api/{what}/{self._vhost}?page={page}&page_size={PAGE}&disable_stats=true")
            items += answer["items"]
            if page >= answer["page_count"]:
                return items
            page += 1

    async def observe(self) -> dict[Thing, Element]:
        """All that is in the virtual host but the broker's own exchanges and bindings, and policies that carry no queue's limits."""
        queues, exchanges = await asyncio.gather(self._pages("queues"), self._pages("exchanges"))
        bindings, policies = await asyncio.gather(
            self._ask("GET", f"api/bindings/{self._vhost}"), self._ask("GET", f"api/policies/{self._vhost}")
        )
        found: list[Element] = [
            RabbitPolicy(policy["name"], policy["pattern"], policy["definition"], policy["priority"], policy["apply-to"])
            for policy in policies
            if policy["name"].startswith(POLICY_PREFIX)
        ]
        found += [
            RabbitExchange(exchange["name"], exchange["type"])
            for exchange in exchanges
            if exchange["name"] and not exchange["name"].startswith("amq.")
        ]
        found += [ObservedQueue.of(queue) for queue in queues if not queue.get("exclusive")]
        found += [
            RabbitBinding(binding["source"], binding["destination"], binding["routing_key"])
            for binding in bindings
            if binding["source"] and binding["destination_type"] == "queue"
        ]
        return {element.thing: element for element in found}

    async def make(self, element: Element) -> None:
        """Declare it; on what exists with other facts only a policy changes, and the rest is refused by the broker."""
        match element:
            case RabbitPolicy():
                body = {
                    "pattern": element.pattern,
                    "definition": dict(element.definition),
                    "priority": element.priority,
                    "apply-to": element.apply_to,
                }
                await self._ask("PUT", f"api/policies/{self._vhost}/{quote(element.name, safe='')}", body)
            case RabbitExchange():
                await self._ask(
                    "PUT", f"api/exchanges/{self._vhost}/{quote(element.name, safe='')}", {"type": element.type, "durable": True}
                )
            case RabbitQueue():
                await self._ask(
                    "PUT",
                    f"api/queues/{self._vhost}/{quote(element.name, safe='')}",
                    {"durable": True, "arguments": dict(element.arguments)},
                )
            case RabbitBinding():
                ends = f"e/{quote(element.exchange, safe='')}/q/{quote(element.queue, safe='')}"
                await self._ask("POST", f"api/bindings/{self._vhost}/{ends}", {"routing_key": element.pattern})


class ObservedQueue:
    """A queue as the broker has it: which policy applies is its choice."""

    def __init__(self, name: str, facts: Mapping[str, str | int | bool]) -> None:
        self.thing = Thing("queue", name)
        self.facts = facts

    @classmethod
    def of(cls, queue: Mapping[str, Any]) -> "ObservedQueue":
        facts = {"x-queue-type": queue.get("type", "classic"), **queue["arguments"]}
        return cls(queue["name"], facts | ({"policy": queue["policy"]} if queue.get("policy") else {}))


async def missing(amqp: str, declared: Topology) -> list[Thing]:
    """The declared queues and exchanges that are not there; asked over AMQP, since a service needs no access to the management API."""
    absent: list[Thing] = []
    async with aio_pika.Connection(URL(amqp)) as connection:  # which closes it also when it can't be opened
        await finish_opening(connection.connect(REQUEST_SECONDS))
        for thing in [*(exchange.thing for exchange in declared.exchanges), *(queue.thing for queue in declared.queues)]:
            channel = await connection.channel()  # the broker closes it when it says no
            try:
                declare = channel.declare_queue if thing.kind == "queue" else channel.declare_exchange
                await declare(thing.name, passive=True)
            except ChannelNotFoundEntity:
                absent.append(thing)
            finally:
                await channel.close()
    return absent


async def observe(url: str, amqp: str) -> dict[Thing, Element]:
    async with Management.open(url, amqp) as management:
        return await management.observe()


async def apply(url: str, amqp: str, declared: Topology) -> Applied:
    """Make what is missing, and set policies as declared."""
    if not declared.rabbit:
        return Applied()
    async with Management.open(url, amqp) as management:
        found = compare(declared.rabbit, await management.observe())
        wanted = [difference.thing for difference in found if _can_be_made(difference)]
        # Policies and exchanges first: a queue lives by its policy from its first message on.
        for kinds in (("policy", "exchange"), ("queue",), ("binding",)):
            await asyncio.gather(*(management.make(declared.rabbit[thing]) for thing in wanted if thing.kind in kinds))
    return Applied(tuple(map(_done, filter(_can_be_made, found))), tuple(filter(None, map(_unchangeable, found))))


def _done(difference: Difference) -> str:
    return f"{difference.thing.kind} {difference.thing.name}: {'created' if difference.kind is Kind.MISSING else 'changed'}"


def _can_be_made(difference: Difference) -> bool:
    return difference.kind is Kind.MISSING or (difference.kind is Kind.DIFFERENT and difference.thing.kind == "policy")


def _unchangeable(difference: Difference) -> str:
    if _can_be_made(difference) or difference.kind is Kind.FOREIGN:
        return ""
    # Without a policy until now, it has got its own by this very pass.
    facts = {name: values for name, values in difference.facts.items() if name != "policy" or values[0]}
    if not facts:
        return ""
    how = "remove the other policy or rank it lower" if set(facts) == {"policy"} else "drain it, delete it, and apply again"
    return f"{Difference(difference.kind, difference.thing, facts)}: {how}"
