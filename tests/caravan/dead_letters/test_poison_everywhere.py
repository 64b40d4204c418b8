"""Poison on every channel of the shop, amid its daily work: each piece is a dead letter with its reason, and nothing
else suffers.
"""

import asyncio
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from caravan.bus import Subscription
from caravan.clock import new_id
from caravan.messages import (
    MAX_BYTES,
    Binding,
    Channel,
    ChannelType,
    Message,
    OutgoingMessage,
    Queue,
    Topic,
    build_routing_regex,
)
from caravan.runtime import Backends, list_subscriptions
from services.registry import load_services
from tests.contract.foreign import send_foreign
from tests.faults.brokers_watched import OnBrokers
from tests.faults.invariants import InPostgres, Wire, at_rest, violations
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until

ORDERS, AT_ONCE = 100, 10
ENVELOPE = {
    "id": "",
    "type": "somebody.Else",
    "dataversion": 1,
    "source": "somebody",
    "time": "2026-01-01T00:00:00Z",
    "data": {},
}
REASONS = {
    "bad JSON": "not JSON",
    "unknown type": "unknown type 'somebody.Else'",
    "newer version": "is newer than this reader's",
    "ten megabytes": f"bytes, over the limit of {MAX_BYTES}",
    "no key": "no key",
}


def build_poison(known_type: str) -> dict[str, tuple[str, bytes]]:
    """Key and body of each kind, for a reader that knows a type."""
    return {
        "bad JSON": ("bad-json", b'{"type": "somebody.'),
        "unknown type": ("unknown-type", orjson.dumps(ENVELOPE | {"id": str(new_id())})),
        "newer version": (
            "newer-version",
            orjson.dumps(ENVELOPE | {"id": str(new_id()), "type": known_type, "dataversion": 99}),
        ),
        "ten megabytes": ("ten-megabytes", b'{"type": "somebody.Else", "data": "' + b"x" * (10 * 1024 * 1024) + b'"}'),
        "no key": ("", orjson.dumps(ENVELOPE | {"id": str(new_id()), "type": known_type})),
    }


def build_poisoned_messages(subscription: Subscription) -> list[OutgoingMessage]:
    channel: Channel
    kind: ChannelType
    known: type[Message]
    match subscription.source:
        case Topic(events=kinds) as channel:
            kind, route, known = "topic", "", kinds[0]
        case Queue(commands=kinds) as channel:
            kind, route, known = "queue", "", kinds[0]
        case Binding(exchange=channel, patterns=patterns):
            bound = [
                route
                for route in channel.routes
                if any(re.match(build_routing_regex(pattern), route) for pattern in patterns)
            ]
            kind, route, known = "exchange", bound[0], channel.routes[bound[0]]
    return [
        OutgoingMessage(kind, channel.name, route, key, new_id(), body)
        for key, body in build_poison(known.type).values()
    ]


@pytest.mark.slow
async def test_poison_on_every_channel_hurts_nothing_but_itself(
    transport: dict[str, Any], backends: Backends, tmp_path: Path
) -> None:
    all_subscriptions = list_subscriptions(load_services())
    wire: Wire = (
        OnBrokers(backends, transport["kafka_url"], transport["rabbitmq_url"], foreign=b"somebody", since=new_id())
        if transport
        else InPostgres(backends)
    )
    async with run_whole_shop(backends, tmp_path, **transport) as scenario:
        orders = asyncio.create_task(place_orders(scenario))
        await publish_poison(scenario, all_subscriptions, transport)
        await orders
        await scenario.wait_for_ends()
        kinds_by_subscription = await wait_until(
            lambda: collect_poison_kinds(scenario, all_subscriptions), seconds=60, every=0.5
        )
        assert {name: sorted(kinds) for name, kinds in kinds_by_subscription.items()} == {
            each.name: sorted(REASONS) for each in all_subscriptions
        }
        dead_letters = await scenario.shop.process.bus.list_dead_letters(all_subscriptions, limit=10_000)
        assert {dead_letter.subscription: dead_letter.channel for dead_letter in dead_letters} == {
            each.name: each.channel for each in all_subscriptions
        }
        assert await scenario.shop.process.bus.discard(dead_letters) == len(dead_letters)

        async def is_at_rest() -> bool:
            remaining = await at_rest(backends, wire)
            assert remaining == "", remaining
            return True

        await wait_until(is_at_rest, seconds=60, every=0.5)
        assert await violations(backends, set(scenario.orders), wire) == []


async def place_orders(scenario: ShopScenario) -> None:
    """Orders whose messages, more than a thousand, pass the poison."""
    who, sku = await scenario.program.register_customer(), await scenario.program.create_product(stock=ORDERS)

    async def buy_repeatedly() -> None:
        for _ in range(ORDERS // AT_ONCE):
            placed = await scenario.program.place_order(who, sku)
            assert placed.status_code == 202, placed.text
            scenario.orders[placed.json()["id"]] = "delivered"

    await asyncio.gather(*(buy_repeatedly() for _ in range(AT_ONCE)))


async def publish_poison(scenario: ShopScenario, every: list[Subscription], transport: dict[str, Any]) -> None:
    once = {each.channel if isinstance(each.source, Topic) else each.name: each for each in every}
    for subscription in once.values():
        messages = build_poisoned_messages(subscription)
        if transport and messages[0].channel_type == "topic":
            await send_foreign(transport["kafka_url"], *messages)
        else:
            await scenario.shop.process.bus.publish(messages)


async def collect_poison_kinds(scenario: ShopScenario, every: list[Subscription]) -> dict[str, set[str]]:
    """By subscription, the kinds of poison among its dead letters, once there are all."""
    kinds_by_subscription: dict[str, set[str]] = defaultdict(set)
    for dead_letter in await scenario.shop.process.bus.list_dead_letters(every, limit=10_000):
        kinds_by_subscription[dead_letter.subscription] |= {
            kind for kind, reason in REASONS.items() if reason in dead_letter.reason
        }
    missing_kinds = {
        each.name: sorted(REASONS.keys() - kinds_by_subscription[each.name])
        for each in every
        if REASONS.keys() - kinds_by_subscription[each.name]
    }
    assert not missing_kinds, missing_kinds
    return kinds_by_subscription
