"""Read models made anew while orders go on: equal to the live ones to the byte, and put right where those are wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from caravan.bus import NEW_READER_AGE, LoggedMessage
from caravan.clock import new_id, utc_now
from caravan.database import Database
from caravan.messages import KEPT
from caravan.rebuild import LogTooShort, LogUnreadable, TopicRebuild
from caravan.runtime import BUS, Backends
from caravan.runtime.backends import open_topic_log
from caravan.service import ReadModel, RebuildResult
from services.analytics.projections import ORDER_FACTS, SALES
from services.orders.projections import rebuild_summaries
from services.recommendations.projections import PURCHASES
from services.registry import load_services
from tests.faults.invariants import rows
from tests.faults.repeating import Repeating
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until

DATABASES = {"analytics": "analytics", "reporting": "analytics", "recommendations": "recommendations"}
"""Of the groups that write read models."""


@pytest.fixture(scope="module")
async def scenario(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ShopScenario]:
    """Every message comes five times."""
    async with run_whole_shop(backends, tmp_path_factory.mktemp("shop"), wrap=Repeating) as scenario:
        yield scenario


@pytest.fixture
async def ended(scenario: ShopScenario) -> ShopScenario:
    """The scenario has been run, by whichever test came first, and every order has ended."""
    if not scenario.orders:
        await scenario.run_scenario()
    await scenario.wait_for_ends()

    async def is_right() -> bool:
        return (await rebuild(scenario, ORDER_FACTS)).is_identical

    await wait_until(is_right)
    return scenario


async def rebuild(scenario: ShopScenario, model: ReadModel) -> RebuildResult:
    counts: list[int] = []
    process = scenario.shop.process
    async with open_topic_log(process.kernel_settings, process.backends, model.topics) as log:
        result = await TopicRebuild(model, scenario.shop.get_database(DATABASES[model.group]), log, counts.append).run()
    assert counts == sorted(counts)
    return result


async def rebuild_orders(scenario: ShopScenario) -> RebuildResult:
    return await rebuild_summaries(scenario.shop.get_context("orders").databases, lambda _: None)


async def test_all_read_models_equal_the_live_ones_twice_while_orders_go_on(scenario: ShopScenario) -> None:
    running = asyncio.create_task(scenario.run_scenario())
    rounds = 0
    while not running.done() or rounds < 2:
        results = [
            await rebuild(scenario, ORDER_FACTS),
            await rebuild(scenario, SALES),
            await rebuild(scenario, PURCHASES),
            await rebuild_orders(scenario),
        ]
        assert [result.is_identical for result in results] == [True, True, True, True]
        rounds += 1
    await running
    await scenario.wait_for_ends()
    assert rounds >= 2
    assert (await rebuild(scenario, ORDER_FACTS)).rows >= len(scenario.orders)
    assert (await rebuild(scenario, SALES)).rows >= 2 * len(scenario.orders)


async def test_a_live_one_that_is_wrong_is_put_right(ended: ShopScenario) -> None:
    facts, purchases = ended.shop.get_database("analytics"), ended.shop.get_database("recommendations")
    revenue = "SELECT sum(captured) FROM order_fact"
    before = await facts.fetchval(revenue)
    await facts.execute("UPDATE order_fact SET captured = captured + 1 WHERE captured > 0")
    assert not (await rebuild(ended, ORDER_FACTS)).is_identical
    assert await facts.fetchval(revenue) == before
    assert (await rebuild(ended, ORDER_FACTS)).is_identical
    await purchases.execute("DELETE FROM sold")
    assert not (await rebuild(ended, PURCHASES)).is_identical
    assert (await rebuild(ended, PURCHASES)).is_identical


async def find_schemas(database: Database) -> list[str]:
    return [row[0] for row in await database.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'")]


async def test_rebuilds_of_one_database_at_once_know_nothing_of_each_other(ended: ShopScenario) -> None:
    """One that loses its tables to another would go on in the live ones, by its search path."""
    facts = ended.shop.get_database("analytics")
    await facts.execute("UPDATE order_fact SET captured = captured + 1 WHERE captured > 0")
    results = await asyncio.gather(*(rebuild(ended, model) for model in (ORDER_FACTS, SALES) * 4))
    assert sum(not result.is_identical for result in results) == 1, "the first put it right"
    assert (await rebuild(ended, ORDER_FACTS)).is_identical
    assert await find_schemas(facts) == []


async def test_a_rebuild_that_lost_its_schema_ends_and_changes_nothing(ended: ShopScenario) -> None:
    facts = ended.shop.get_database("analytics")
    before = await facts.fetch("SELECT * FROM order_fact ORDER BY order_id")

    class Losing:
        async def read_messages(self, count: int) -> list[LoggedMessage]:
            messages = await log.read_messages(count)
            for schema in await find_schemas(facts):
                await facts.execute(f"DROP SCHEMA {schema} CASCADE")
            return messages

    process = ended.shop.process
    async with open_topic_log(process.kernel_settings, process.backends, ORDER_FACTS.topics) as log:
        with pytest.raises(asyncpg.InvalidSchemaNameError):
            await TopicRebuild(ORDER_FACTS, facts, Losing(), lambda _: None).run()
    assert await facts.fetch("SELECT * FROM order_fact ORDER BY order_id") == before


async def test_what_a_killed_rebuild_left_is_dropped_after_a_day(ended: ShopScenario) -> None:
    facts = ended.shop.get_database("analytics")
    earlier = int((utc_now() - timedelta(hours=25)).timestamp() * 1000)
    abandoned, running = f"rebuild_{UUID(int=earlier << 80 | 7 << 76 | 2 << 62).hex}", f"rebuild_{new_id().hex}"
    for schema in (abandoned, running):
        await facts.execute(f"CREATE SCHEMA {schema}")
    assert (await rebuild(ended, ORDER_FACTS)).is_identical
    assert await find_schemas(facts) == [running]
    await facts.execute(f"DROP SCHEMA {running}")


async def test_rows_from_before_the_topics_were_kept_are_not_thrown_away(ended: ShopScenario) -> None:
    facts = ended.shop.get_database("analytics")
    await facts.execute("INSERT INTO order_fact (order_id, captured) VALUES (gen_random_uuid(), 5)")
    with pytest.raises(LogTooShort, match="Nothing was changed"):
        await rebuild(ended, ORDER_FACTS)
    assert await facts.execute("DELETE FROM order_fact WHERE captured = 5") == 1
    assert (await rebuild(ended, ORDER_FACTS)).is_identical


async def test_a_message_that_nobody_can_read_is_left_out(ended: ShopScenario, backends: Backends) -> None:
    poison = (
        "INSERT INTO topic_log (topic, key, message_id, body)"
        " SELECT topic, 'poison', gen_random_uuid(), 'not JSON' FROM (SELECT DISTINCT topic FROM cursor) t RETURNING 1"
    )
    assert len(await rows(backends, BUS, poison)) > 1

    async def are_dead() -> bool:
        [counts] = await rows(
            backends, BUS, "SELECT (SELECT count(*) FROM dead_letter WHERE key = 'poison'), count(*) FROM cursor"
        )
        return bool(counts[0] == counts[1])

    await wait_until(are_dead)
    for model in (ORDER_FACTS, SALES, PURCHASES):
        assert (await rebuild(ended, model)).is_identical


@asynccontextmanager
async def unhandled(facts: Database, order_id: Any) -> AsyncIterator[None]:
    """Meanwhile analytics has not handled this order's first message."""
    claimed = "UPDATE inbox SET consumer = $1 WHERE consumer = $2 AND key = $3"
    assert await facts.execute(claimed, "nobody", "analytics.order-created", order_id) == 1
    yield
    assert await facts.execute(claimed, "analytics.order-created", "nobody", order_id) == 1


async def test_what_the_service_has_not_handled_is_left_to_it(ended: ShopScenario) -> None:
    """A message on the topic that waits for its consumer is in neither."""
    facts = ended.shop.get_database("analytics")
    order_id = await facts.fetchval("SELECT order_id FROM order_fact ORDER BY 1 LIMIT 1")
    async with unhandled(facts, order_id):
        await facts.execute("UPDATE order_fact SET placed_at = NULL, total = NULL WHERE order_id = $1", order_id)
        await rebuild(ended, ORDER_FACTS)
        assert await facts.fetchval("SELECT placed_at FROM order_fact WHERE order_id = $1", order_id) is None
    assert not (await rebuild(ended, ORDER_FACTS)).is_identical, "what has been handled is in it"

    async def nothing_is_left_over() -> bool:
        return not await facts.fetch("SELECT FROM pg_namespace WHERE nspname = 'rebuild'")

    await wait_until(nothing_is_left_over)


async def test_what_a_new_reader_no_longer_saw_is_in_it(ended: ShopScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service began eight days after the message, too late to read it: it is in no inbox, and none will read it."""
    facts = ended.shop.get_database("analytics")
    order_id = await facts.fetchval("SELECT order_id FROM order_fact ORDER BY 1 DESC LIMIT 1")
    async with unhandled(facts, order_id):
        await facts.execute("UPDATE order_fact SET placed_at = NULL, total = NULL WHERE order_id = $1", order_id)
        monkeypatch.setattr(facts, "clock", lambda: utc_now() + NEW_READER_AGE + timedelta(days=1))
        await rebuild(ended, ORDER_FACTS)
        assert await facts.fetchval("SELECT placed_at FROM order_fact WHERE order_id = $1", order_id)


class LeaderlessLog:
    """At its end, and then without an answer."""

    def __init__(self) -> None:
        self.reads = 0

    async def read_messages(self, limit: int) -> list[LoggedMessage]:
        self.reads += 1
        if self.reads > 1:
            await asyncio.sleep(60)
        return []


async def test_writers_wait_no_longer_than_the_bound_for_topics_that_give_no_answer(
    ended: ShopScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = ended.shop.get_database("analytics")
    monkeypatch.setattr("caravan.rebuild._CATCH_UP_SECONDS", 0.2)
    with pytest.raises(LogUnreadable, match="Nothing was changed"):
        async with asyncio.timeout(10):
            await TopicRebuild(ORDER_FACTS, facts, LeaderlessLog(), lambda _: None).run()
    async with asyncio.timeout(5):
        assert await facts.execute("UPDATE order_fact SET captured = captured") > 0
    assert not await facts.fetch("SELECT FROM pg_namespace WHERE nspname = 'rebuild'")


def test_topics_of_read_models_are_kept() -> None:
    models = [model for service in load_services() for model in service.projections.values()]
    topics = {topic for model in models if isinstance(model, ReadModel) for topic in model.projections}
    assert len(topics) == 7
    assert {topic.name for topic in topics if topic.retention != KEPT} == set()
