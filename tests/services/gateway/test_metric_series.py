"""Whatever clients send makes no series: after thousands of paths, products, users and methods there are as many."""

from random import Random

import pytest
from prometheus_client import REGISTRY

from caravan.clock import new_id
from caravan.runtime import Backends
from tests.support.shop import run_services

CHANCE = Random(18)


def list_series() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in REGISTRY.collect()
        for sample in family.samples
    }


def make_word() -> str:
    return "".join(CHANCE.choices("abcdefghijklmnopqrstuvwxyz0123456789-_", k=12))


def choose_request() -> tuple[str, str]:
    kind = CHANCE.randrange(5)
    if kind == 0:
        return "GET", f"/{make_word()}/{make_word()}"
    if kind == 1:
        return "GET", f"/v1/products/{make_word()}"
    if kind == 2:
        return "GET", f"/v1/stock/{make_word()}"
    if kind == 3:
        return "GET", f"/v1/users/{new_id()}"
    return make_word().upper().strip("-_0123456789") or "X", f"/v1/products/{make_word()}"


@pytest.mark.parametrize("requests", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_random_paths_products_users_and_methods_add_no_series(backends: Backends, requests: int) -> None:
    async with run_services(backends, "gateway", "catalog", "inventory") as shop:
        limiter = shop.get_context("gateway").resources.rate_classes
        limiter.reads = limiter.writes = type(limiter.reads)("reads", 10_000_000)
        for _ in range(200):  # whatever there is of answers, once
            await shop.client.request(*choose_request())
        before = list_series()
        for _ in range(requests):
            await shop.client.request(*choose_request())
        new = sorted(str(series) for series in list_series() - before)
    assert new == []
