"""The daily self-test says which class is not found any more, and which is found where nothing was planted."""

from dataclasses import replace
from typing import Any

import pytest

from services.reconciliation.metrics import SELF_TEST_FAILURES
from services.reconciliation.model.classes import CLASSES, Gap
from services.reconciliation.model.verdict import Verdict, assess_order
from services.reconciliation.use_cases import ReconciliationContext, compare_stock, self_test
from services.reconciliation.use_cases.compare import update_gauges
from services.reconciliation.use_cases.self_test import run_self_test
from tests.services.reconciliation.conftest import compare


def blind(monkeypatch: pytest.MonkeyPatch, gap_class: str) -> None:
    """Nothing finds this class any more."""

    def keep(gaps: Any) -> list[Gap]:
        return [gap for gap in gaps if gap.gap_class != gap_class]

    def assess(*arguments: Any) -> Verdict:
        verdict = assess_order(*arguments)
        return replace(verdict, gaps=tuple(keep(verdict.gaps)))

    async def compare_products(*arguments: Any) -> Any:
        gaps, right = await compare_stock.compare_products(*arguments)
        return keep(gaps), right

    async def find_held_gaps(*arguments: Any) -> list[Gap]:
        return keep(await compare_stock.find_held_gaps(*arguments))

    async def list_outbox_gaps(*arguments: Any) -> list[Gap]:
        return keep(await compare_stock.list_outbox_gaps(*arguments))

    monkeypatch.setattr(self_test, "assess_order", assess)
    for finder in (compare_products, find_held_gaps, list_outbox_gaps):
        monkeypatch.setattr(self_test, finder.__name__, finder)


async def test_the_self_test_finds_all_that_it_plants_and_leaves_nothing(context: ReconciliationContext) -> None:
    assert await run_self_test(context) == []
    tables = await context.database.fetch("SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'")
    assert tables == []


@pytest.mark.parametrize("gap_class", CLASSES)
async def test_a_class_that_nothing_finds_any_more_is_named(
    context: ReconciliationContext, monkeypatch: pytest.MonkeyPatch, gap_class: str
) -> None:
    blind(monkeypatch, gap_class)
    assert await run_self_test(context) == [gap_class]


async def test_a_failed_self_test_is_in_the_metric(
    context: ReconciliationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind(monkeypatch, "double_capture")
    await context.database.execute("UPDATE progress SET tested_at = NULL")
    await compare(context)
    await update_gauges(context)
    assert SELF_TEST_FAILURES._value.get() == 1
