"""Channels of each kind with a reader each, under names that no other test has."""

from typing import Any

from caravan.bus import Subscription
from caravan.bus.topology import Topology, build_topology
from caravan.clock import new_id
from caravan.messages import Exchange
from tests.contract.bus_messages import QUICK, Happened, make_queue, make_topic


def build_sample_topology() -> tuple[list[Any], list[Subscription], Topology]:
    exchange = Exchange(f"exchange-{new_id()}", "test", {"a.b": Happened}, "id", "test")
    channels: list[Any] = [make_topic(), make_queue(), exchange]
    readers = [
        Subscription("reader", channels[0]),
        Subscription("reader", channels[1]),
        Subscription("reader", exchange.bind("reader", "a.*", retry=QUICK)),
    ]
    return channels, readers, build_topology(channels, readers)
