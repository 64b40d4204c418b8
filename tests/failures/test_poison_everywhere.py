"""Poison on every channel of the shop, amid its daily work: each piece is a dead letter with its reason, and nothing else suffers."""

import asyncio
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from caravan.bus import Subscription
from caravan.bus.embedded import routing_regex
from caravan.clock import new_id
from caravan.messages import MAX_BYTES, Binding, Channel, Kind, Message, Outgoing, Queue, Topic
from caravan.runtime import Backends, subscriptions
from services.__main__ import load
from tests.contract.foreign import send_foreign
from tests.faults.brokers_watched import OnBrokers
from tests.faults.invariants import InPostgres, Wire, at_rest, violations
from tests.shop import until
from tests.story import Story, whole_shop

ORDERS, AT_ONCE = 100, 10
ENVELOPE = {"id": "", "type": "somebody.Else", "dataversion": 1, "source": "somebody", "time": "2026-01-01T00:00:00Z", "data": {}}
REASONS = {
    "bad JSON": "not JSON",
    "unknown type": "unknown type 'somebody.Else'",
    "newer version": "is newer than this reader's",
    "ten megabytes": f"bytes, over the limit of {MAX_BYTES}",
    "no key": "no key",
}


def poison(known: str) -> dict[str, tuple[str, bytes]]:
    """Key and body of each kind, for a reader that knows a type."""
    return {
        "bad JSON": ("bad-json", b'{"type": "somebody.'),
        "unknown type": ("unknown-type", orjson.dumps(ENVELOPE | {"id": str(new_id())})),
        "newer version": ("newer-version", orjson.dumps(ENVELOPE | {"id": str(new_id()), "type": known, "dataversion": 99})),
        "ten megabytes": ("ten-megabytes", b'{"type": "somebody.Else", "data": "' + b"x" * (10 * 1024 * 1024) + b'"}'),
        "no key": ("", orjson.dumps(ENVELOPE | {"id": str(new_id()), "type": known})),
    }


def poisoned(subscription: Subscription) -> list[Outgoing]:
    channel: Channel
    kind: Kind
    known: type[Message]
    match subscription.source:
        case Topic(events=kinds) as channel:
            kind, route, known = "topic", "", kinds[0]
        case Queue(commands=kinds) as channel:
            kind, route, known = "queue", "", kinds[0]
        case Binding(exchange=channel, patterns=patterns):
            bound = [route for route in channel.routes if any(re.match(routing_regex(pattern), route) for pattern in patterns)]
            kind, route, known = "exchange", bound[0], channel.routes[bound[0]]
    return [Outgoing(kind, channel.name, route, key, new_id(), body) for key, body in poison(known.type).values()]


@pytest.mark.slow
async def test_poison_on_every_channel_hurts_nothing_but_itself(transport: dict[str, Any], backends: Backends, tmp_path: Path) -> None:
    every = subscriptions(load())
    wire: Wire = (
        OnBrokers(backends, transport["kafka_url"], transport["rabbitmq_url"], foreign=b"somebody") if transport else InPostgres(backends)
    )
    async with whole_shop(backends, tmp_path, **transport) as story:
        orders = asyncio.create_task(trade(story))
        await send(story, every, transport)
        await orders
        await story.rest()
        letters = await until(lambda: all_dead(story, every), seconds=60, every=0.5)
        assert {name: sorted(kinds) for name, kinds in letters.items()} == {each.name: sorted(REASONS) for each in every}
        found = await story.shop.process.bus.dead_letters(every, limit=10_000)
        assert {letter.subscription: letter.channel for letter in found} == {each.name: each.channel for each in every}
        assert await story.shop.process.bus.discard(found) == len(found)

        async def resting() -> bool:
            left = await at_rest(backends, wire)
            assert left == "", left
            return True

        await until(resting, seconds=60, every=0.5)
        assert await violations(backends, set(story.orders), wire) == []


async def trade(story: Story) -> None:
    """Orders whose messages, more than a thousand, pass the poison."""
    who, sku = await story.program.customer(), await story.program.product(stock=ORDERS)

    async def buy() -> None:
        for _ in range(ORDERS // AT_ONCE):
            placed = await story.program.place(who, sku)
            assert placed.status_code == 202, placed.text
            story.orders[placed.json()["id"]] = "delivered"

    await asyncio.gather(*(buy() for _ in range(AT_ONCE)))


async def send(story: Story, every: list[Subscription], transport: dict[str, Any]) -> None:
    once = {each.channel if isinstance(each.source, Topic) else each.name: each for each in every}
    for subscription in once.values():
        messages = poisoned(subscription)
        if transport and messages[0].kind == "topic":
            await send_foreign(transport["kafka_url"], *messages)
        else:
            await story.shop.process.bus.publish(messages)


async def all_dead(story: Story, every: list[Subscription]) -> dict[str, set[str]]:
    """By subscription, the kinds of poison among its dead letters, once there are all."""
    found: dict[str, set[str]] = defaultdict(set)
    for letter in await story.shop.process.bus.dead_letters(every, limit=10_000):
        found[letter.subscription] |= {kind for kind, reason in REASONS.items() if reason in letter.reason}
    lacking = {each.name: sorted(REASONS.keys() - found[each.name]) for each in every if REASONS.keys() - found[each.name]}
    assert not lacking, lacking
    return found
