"""Every message five times, and whole topics read again from their first message: money, stock and mailbox stay as they
are.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from caravan.database import UnitOfWork
from caravan.runtime import BUS, Backends
from tests.faults.books import books, differences
from tests.faults.invariants import at_rest, rows, violations
from tests.faults.repeating import TIMES, Repeating, wait_for_rest
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "shop"


@pytest.fixture
async def finished(backends: Backends, data: Path) -> AsyncIterator[ShopScenario]:
    """A scenario that has come to its end, with every message sent five times."""
    async with run_whole_shop(backends, data, wrap=Repeating) as scenario:
        await scenario.run_scenario()
        await wait_for_rest(scenario, backends)
        yield scenario


async def mails(backends: Backends) -> list[Any]:
    return await rows(backends, "notifications", "SELECT about, kind, channel FROM notification WHERE state = 'sent'")


async def test_every_message_five_times_changes_neither_money_nor_stock_nor_mailbox(
    finished: ShopScenario, backends: Backends, data: Path
) -> None:
    delivered = (await rows(backends, BUS, "SELECT count(*), count(DISTINCT message_id) FROM topic_log"))[0]
    assert delivered[0] == TIMES * delivered[1]
    assert await violations(backends, set(finished.orders)) == []
    sent = [tuple(row) for row in await mails(backends)]
    assert len(sent) == len(set(sent))
    by_mail = [row for row in sent if row[2] == "email"]
    assert len(list((data / "mail").glob("*.eml"))) == len(by_mail)


async def test_topics_read_again_from_the_first_message_change_not_a_single_row(backends: Backends, data: Path) -> None:
    async with run_whole_shop(backends, data) as scenario:
        await scenario.run_scenario()
        await wait_for_rest(scenario, backends)
    before = await books(backends, data)
    read = await _start_over(backends)
    async with run_whole_shop(backends, data):
        await wait_until(lambda: _read_again(backends), seconds=60, every=0.1)
    assert read > 100
    assert differences(before, await books(backends, data)) == []


async def _start_over(backends: Backends) -> int:
    """Every group is at the beginning of its topic; how many messages are to be read again."""
    counted = "SELECT count(*) FROM cursor c JOIN topic_log l ON l.topic = c.topic"
    return int((await rows(backends, BUS, f"WITH moved AS (UPDATE cursor SET position = 0) {counted}"))[0][0])


async def _read_again(backends: Backends) -> bool:
    left = await at_rest(backends)
    assert left == "", left
    return True


@pytest.mark.slow
async def test_without_an_inbox_a_repeated_message_would_be_noticed(
    backends: Backends, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These tests can fail: when every message counts as new, the books change."""

    async def everything_is_new(uow: UnitOfWork, consumer: str, deliveries: Any, **_: Any) -> list[Any]:
        return list(deliveries)

    async with run_whole_shop(backends, data) as scenario:
        await scenario.run_scenario()
        await wait_for_rest(scenario, backends)
    before = await books(backends, data)
    await _start_over(backends)
    monkeypatch.setattr(UnitOfWork, "claim_messages", everything_is_new)
    async with run_whole_shop(backends, data):
        await wait_until(lambda: _read_again(backends), seconds=60, every=0.1)
    assert differences(before, await books(backends, data)) != []
