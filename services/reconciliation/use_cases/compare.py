"""Compares the books: what has changed since the last time, or everything; and keeps the cases of what is wrong.

One process compares at a time, as long as it renews its lease. Two that overlap would do no harm: a gap has one case.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from caravan.clock import EPOCH, make_lowest_id, new_id
from caravan.errors import Problem
from caravan.telemetry import log
from services.payments.client import READ_STATEMENT, StatementRequest
from services.reconciliation.metrics import GAPS, RUN_SECONDS, SELF_TEST_FAILURES, WATERMARK_AGE
from services.reconciliation.model.cases import CaseState, settle
from services.reconciliation.model.classes import CLASSES, INVARIANTS, Gap
from services.reconciliation.store import books as books_store
from services.reconciliation.store import cases, runs, statement
from services.reconciliation.store.books import Books, open_books
from services.reconciliation.store.cases import CaseRef
from services.reconciliation.store.runs import Progress, Run
from services.reconciliation.use_cases import ReconciliationContext, choose_watermark, compare_orders
from services.reconciliation.use_cases.compare_stock import (
    OUTBOX_CLASSES,
    STOCK_CLASSES,
    find_outbox_gaps,
    find_stock_gaps,
)
from services.reconciliation.use_cases.self_test import run_self_test

PAGE = 1000
EVENT_PAGE = 5000
OVERLAP = timedelta(seconds=60)
"""Read again each time: a transaction may commit so long after the time that it wrote."""
KEEP_RUNS = timedelta(days=30)
FIRST_ID = UUID(int=0)


async def run_when_due(context: ReconciliationContext) -> bool:
    """The periodic task: what an admin asked for, what another process left, or what is due."""
    run, holder = await _choose_run(context), context.resources.name
    if run is not None and await runs.hold_progress(context.database, holder, context.clock()):
        try:
            await execute_run(context, run, holder)
        finally:
            await runs.release_progress(context.database, holder)
    await update_gauges(context)
    return False


async def _choose_run(context: ReconciliationContext) -> Run | None:
    database, now, settings = context.database, context.clock(), context.settings
    waiting = await runs.find_unfinished(database)
    if waiting is not None:
        return waiting
    newest = await runs.list_runs(database, None, 1)
    ended_at = newest[0].finished_at if newest else None
    if ended_at and now < ended_at + timedelta(seconds=settings.run_seconds):
        return None
    progress = await runs.read_progress(database)
    is_full = not (progress and progress.full_at and now < progress.full_at + timedelta(hours=settings.full_hours))
    return _make_run("full" if is_full else "changes", now)


def _make_run(mode: str, now: datetime) -> Run:
    return Run(new_id(), mode, "new", "", now, None, None, None, "", 0, 0, 0, 0, "")


async def execute_run(context: ReconciliationContext, run: Run, holder: str) -> Run:
    """Compare, and record what came of it. What went wrong on the way is its `reason`; the next one tries again.
    `holder`: whose lease is renewed meanwhile.
    """
    started_at, now = time.monotonic(), context.clock()
    is_new, run.state, run.started_at = run.state == "new", "running", now
    run.orders = run.products = run.opened = run.closed = 0  # where another process had begun it
    if is_new:
        await runs.insert_run(context.database, run.id, run.mode, run.state, run.requested_by, now)
    comparison = Comparison(context, run, holder)
    try:
        await comparison.execute()
        run.state, run.reason = "done", ""
    except (Problem, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        run.state, run.reason = "failed", f"{type(error).__name__}: {error}"[:500]
        log.warning("comparison failed", mode=run.mode, error=repr(error))
    run.finished_at = context.clock()
    await runs.save_run(context.database, run)
    await runs.prune_runs(context.database, make_lowest_id(now - KEEP_RUNS))
    if run.state == "done":
        RUN_SECONDS.labels(run.mode).observe(time.monotonic() - started_at)
    return run


async def update_gauges(context: ReconciliationContext) -> None:
    """In every process, whoever compared."""
    counts = dict.fromkeys(INVARIANTS, 0)
    for name, count in (await cases.count_unsettled(context.database)).items():
        counts[CLASSES[name].invariant] += count
    for invariant, count in counts.items():
        GAPS.labels(invariant).set(count)
    last = await runs.find_last(context.database)
    if last and last.watermark:
        WATERMARK_AGE.set((context.clock() - last.watermark).total_seconds())
    progress = await runs.read_progress(context.database)
    SELF_TEST_FAILURES.set(progress.untested if progress else 0)


@dataclass(slots=True)
class Comparison:
    context: ReconciliationContext
    run: Run
    holder: str
    watermark: datetime = EPOCH
    _unsettled: dict[tuple[str, str], CaseRef] = field(default_factory=dict)

    async def execute(self) -> None:
        context, run, database = self.context, self.run, self.context.database
        progress = await runs.read_progress(database)
        assert progress is not None, "who holds the row has it"
        scanned_at, is_full = context.clock(), run.mode == "full"
        last = await runs.find_last(database)
        self.watermark, run.held_by = await choose_watermark(context, last.watermark if last else None)
        run.watermark = self.watermark
        self._unsettled = {(case.gap_class, case.subject): case for case in await cases.list_unsettled(database)}
        assert context.connect_to_books is not None
        async with open_books(context.connect_to_books) as books:
            await self._notice_changes(books, progress, is_full=is_full)
            if is_full:
                await self._compare_everything(books)
            else:
                await self._compare_watched(books)
            gaps, run.products = await find_stock_gaps(context, books, is_full=is_full)
            await self._apply(gaps, STOCK_CLASSES)
            gaps, unread = await find_outbox_gaps(context, books)
            await self._apply(gaps, OUTBOX_CLASSES, unread)
        await self._apply_foreign()
        progress.scanned_at = scanned_at
        if is_full:
            progress.full_at = scanned_at
        if progress.tested_at is None or scanned_at >= progress.tested_at + timedelta(
            hours=context.settings.full_hours
        ):
            progress.untested, progress.tested_at = len(await run_self_test(context)), scanned_at
        await runs.save_progress(database, progress)

    async def _notice_changes(self, books: Books, progress: Progress, *, is_full: bool) -> None:
        """Watch what has changed. A full comparison looks at everything, and only notes how far that is."""
        context, database = self.context, self.context.database
        now = context.clock()
        if is_full:
            progress.event_transaction, progress.event_position = await books_store.find_end(books)
            progress.statement_time, progress.statement_key = None, ""
        else:
            while True:
                found, end = await books_store.list_events(
                    books, progress.event_transaction, progress.event_position, EVENT_PAGE
                )
                if end is None:
                    break
                await runs.watch_orders(database, found, now)
                progress.event_transaction, progress.event_position = end
            since = (progress.scanned_at or EPOCH) - OVERLAP if progress.scanned_at else EPOCH
            await runs.watch_orders(database, await books_store.list_changed(books, since), now)
        await self._read_statement(progress, is_full=is_full)

    async def _read_statement(self, progress: Progress, *, is_full: bool) -> None:
        context, database = self.context, self.context.database
        position = (progress.statement_time - OVERLAP, "") if progress.statement_time else (EPOCH, "")
        while True:
            request = StatementRequest.model_construct(
                after_time=position[0], after_key=position[1], limit=PAGE, references=None
            )
            entries = (await context.call(READ_STATEMENT, request)).items
            if not entries:
                break
            order_ids = await statement.save_entries(database, entries, self.run.id)
            if not is_full:
                await runs.watch_orders(database, order_ids, context.clock())
            position = (entries[-1].at, entries[-1].key)
            progress.statement_time, progress.statement_key = position
            await self._keep_lease()
        if is_full:
            await statement.forget_unread(database, self.run.id)

    async def _compare_everything(self, books: Books) -> None:
        after = FIRST_ID
        while True:
            ours = await statement.list_order_ids(self.context.database, after, PAGE)
            order_ids = await books_store.list_ids(books, after, PAGE, ours)
            if not order_ids:
                break
            await self._compare_page(books, order_ids, is_full=True)
            after = order_ids[-1]

    async def _compare_watched(self, books: Books) -> None:
        database = self.context.database
        await runs.watch_orders(
            database, {case.order_id for case in self._unsettled.values() if case.order_id}, self.context.clock()
        )
        after = FIRST_ID
        while order_ids := await runs.list_watched(database, after, PAGE):
            await self._compare_page(books, order_ids, is_full=False)
            after = order_ids[-1]

    async def _compare_page(self, books: Books, order_ids: Sequence[UUID], *, is_full: bool) -> None:
        context, database, run = self.context, self.context.database, self.run
        result = await compare_orders.compare_orders(
            context, books, order_ids, self.watermark, run.id, has_fresh_statement=is_full
        )
        run.orders += len(order_ids)
        await self._open_cases(result.gaps)
        found = {(gap.gap_class, gap.subject) for gap in result.gaps}
        await self._settle(
            [
                case
                for case in self._unsettled.values()
                if case.order_id in result.settled and (case.gap_class, case.subject) not in found
            ]
        )
        await runs.watch_orders(database, result.moving, context.clock())
        if not is_full:
            await runs.unwatch_orders(database, result.settled)
        await self._keep_lease()

    async def _apply_foreign(self) -> None:
        """Entries of the provider under no id of ours."""
        foreign = await statement.list_foreign(self.context.database, self.watermark)
        gaps = [
            Gap("entry_unknown_to_us", entry.key, None, entry.amount, entry.currency, {"kind": entry.kind})
            for entry in foreign
        ]
        await self._open_cases(gaps)
        found = {gap.subject for gap in gaps}
        await self._settle(
            [
                case
                for case in self._unsettled.values()
                if case.gap_class == "entry_unknown_to_us" and case.order_id is None and case.subject not in found
            ]
        )

    async def _apply(self, gaps: list[Gap], classes: frozenset[str], unread: Sequence[str] = ()) -> None:
        """All gaps of these classes that there are now; `unread`: the databases of which nobody knows."""
        await self._open_cases(gaps)
        found = {(gap.gap_class, gap.subject) for gap in gaps}
        await self._settle(
            [
                case
                for key, case in self._unsettled.items()
                if case.gap_class in classes and key not in found and case.subject.partition(":")[0] not in unread
            ]
        )

    async def _open_cases(self, gaps: list[Gap]) -> None:
        database, now = self.context.database, self.context.clock()
        if not gaps:
            return
        known = [self._unsettled[key] for gap in gaps if (key := (gap.gap_class, gap.subject)) in self._unsettled]
        await cases.mark_seen(database, [case.id for case in known], now)
        overdue = now - timedelta(seconds=self.context.settings.repair_seconds)
        failed: list[tuple[CaseRef, CaseState]] = [
            (case, "open") for case in known if case.state == "repairing" and case.changed_at <= overdue
        ]
        if failed:
            await cases.move_cases(database, failed, "the repair changed nothing", now)
        new = [gap for gap in gaps if (gap.gap_class, gap.subject) not in self._unsettled]
        if new:
            dismissed = await cases.list_dismissed(database, [gap.subject for gap in new])
            new = [gap for gap in new if (gap.gap_class, gap.subject, gap.amount) not in dismissed]
        if new:
            self.run.opened += await cases.open_cases(database, new, now)

    async def _settle(self, gone: list[CaseRef]) -> None:
        if gone:
            moves = [(case, settle(case.state)) for case in gone]
            self.run.closed += await cases.move_cases(
                self.context.database, moves, "the books agree", self.context.clock()
            )

    async def _keep_lease(self) -> None:
        await runs.hold_progress(self.context.database, self.holder, self.context.clock())
        if self.run.mode == "full":
            await runs.save_run(self.context.database, self.run)
