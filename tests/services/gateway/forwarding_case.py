"""A gateway with a service behind it, and a client that talks to it over a real connection."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2

from tests.services.gateway.stand_ins import Pets, listening
from tests.support.shop import Shop


@dataclass
class ForwardingCase:
    shop: Shop
    pets: Pets
    client: httpx2.AsyncClient
    """Over a real connection: the shop's own client takes whole answers only."""


@contextlib.asynccontextmanager
async def open_forwarding_case(shop: Shop, pets: Pets) -> AsyncIterator[ForwardingCase]:
    async with (
        listening(shop.process.app) as url,
        httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
    ):
        yield ForwardingCase(shop, pets, client)
