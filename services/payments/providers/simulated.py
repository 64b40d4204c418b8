"""A payment provider that is simulated, for shops without a contract with a real one.

It behaves as an outside system does: it has a ledger of its own (the table `provider_ledger`, which payments itself
never touches), answers a known key with what it stored for it, and may fail to answer.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from caravan.clock import new_id
from caravan.database import Database
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import TEXT, TIMESTAMPTZ, col, select_columns
from caravan.money import Money
from services.payments.providers.protocol import CaptureDecline, CaptureSuccess, NoProviderResponse, ProviderLedgerEntry
from services.payments.schemas import LedgerKind, LedgerOutcome
from services.payments.tables import ProviderLedger

BATCH_WINDOW_SECONDS = 0.002


_CaptureCall = tuple[str, str, str, int, str]
_OUTCOME_BY_TOKEN = {
    "tok_ok": ("captured", ""),
    "tok_timeout_charged": ("captured", ""),
    "tok_flaky": ("captured", ""),
    "tok_declined": ("declined", "card_declined"),
}
_INSERT_CAPTURES = """
    WITH calls AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[],
            $8::text[])
            AS a(key, reference, token, amount, currency, outcome, reason, charge)
    ), decided AS (
        SELECT *, token = 'tok_flaky'
            AND (SELECT count(*) FROM provider_ledger l
                WHERE l.reference = calls.reference AND l.outcome = 'failed') < 2 AS flaky
        FROM calls
    ), added AS (
        INSERT INTO provider_ledger (key, kind, reference, amount, currency, outcome, reason, charge)
        SELECT key, 'capture', reference, amount, currency, CASE WHEN flaky THEN 'failed' ELSE outcome END,
            CASE WHEN flaky THEN 'try_again_later' ELSE reason END,
            CASE WHEN flaky OR outcome <> 'captured' THEN NULL ELSE charge END
        FROM decided ORDER BY key
        ON CONFLICT (key) DO NOTHING RETURNING key, outcome, reason, charge
    )
    SELECT key, outcome, reason, charge, true AS new FROM added
    UNION ALL SELECT key, outcome, reason, charge, false FROM provider_ledger WHERE key = ANY($1)
"""


def _build_entry(
    amount: int,
    currency: str,
    key: str,
    kind: LedgerKind,
    outcome: LedgerOutcome,
    *fields: Any,
) -> ProviderLedgerEntry:
    return ProviderLedgerEntry(key, kind, outcome, Money(amount=amount, currency=currency), *fields)


_FIELDS = ("amount", "currency", "key", "kind", "outcome", "reason", "charge", "at", "reference")
_SELECT = select(*select_columns(ProviderLedger, _FIELDS))
_FIND = Query(_SELECT.where(col(ProviderLedger.key) == bindparam("key")), _build_entry)
_LIST = Query(
    _SELECT.where(col(ProviderLedger.reference) == bindparam("reference")).order_by(
        col(ProviderLedger.at), col(ProviderLedger.key)
    ),
    _build_entry,
)
_LIST_OF = Query(_SELECT.where(is_among(col(ProviderLedger.reference), "references")), _build_entry)
_STATEMENT = Query(
    _SELECT.where(
        tuple_(col(ProviderLedger.at), col(ProviderLedger.key))
        > tuple_(bindparam("at", type_=TIMESTAMPTZ), bindparam("key", type_=TEXT))
    )
    .order_by(col(ProviderLedger.at), col(ProviderLedger.key))
    .limit(bindparam("limit")),
    _build_entry,
)
_INSERT_REFUND = Query(
    insert(ProviderLedger)
    .values(
        key=bindparam("key"),
        kind="refund",
        reference=bindparam("reference"),
        amount=bindparam("amount"),
        currency=bindparam("currency"),
        outcome="refunded",
        charge=bindparam("charge"),
    )
    .on_conflict_do_nothing(index_elements=["key"])
)


class SimulatedProvider:
    """Its tokens: `tok_ok`, `tok_declined` (for good), `tok_flaky` (fails twice per order, then succeeds),
    `tok_timeout_charged` (charges, but the first call with a key gets no answer). Any other token is declined for good.
    Captures that come within two milliseconds share one statement.
    """

    def __init__(self, database: Database, latency: float = 0.0) -> None:
        self._database = database
        self._latency = latency
        self._pending: dict[str, tuple[_CaptureCall, asyncio.Future[asyncpg.Record]]] = {}
        self._is_flush_scheduled = False
        self._flush_tasks: set[asyncio.Task[None]] = set()

    async def capture(self, key: str, reference: str, amount: Money, token: str) -> CaptureSuccess | CaptureDecline:
        await asyncio.sleep(self._latency)
        row = await self._enqueue_capture((key, reference, token, amount.amount, amount.currency))
        if row["new"] and token == "tok_timeout_charged":
            raise NoProviderResponse("the provider timed out")
        if row["outcome"] == "captured":
            return CaptureSuccess(row["charge"])
        return CaptureDecline(row["reason"], hard=row["outcome"] == "declined")

    async def refund(self, key: str, reference: str, charge: str, amount: Money) -> None:
        await asyncio.sleep(self._latency)
        await _INSERT_REFUND.execute(
            self._database,
            key=key,
            reference=reference,
            amount=amount.amount,
            currency=amount.currency,
            charge=charge,
        )

    async def find_entry(self, key: str) -> ProviderLedgerEntry | None:
        return await _FIND.fetch_one(self._database, key=key)

    async def list_entries(self, reference: str) -> list[ProviderLedgerEntry]:
        return await _LIST.fetch_all(self._database, reference=reference)

    async def list_entries_of(self, references: Sequence[str]) -> list[ProviderLedgerEntry]:
        return await _LIST_OF.fetch_all(self._database, references=list(references))

    async def list_statement(self, after: tuple[datetime, str], limit: int) -> list[ProviderLedgerEntry]:
        return await _STATEMENT.fetch_all(self._database, at=after[0], key=after[1], limit=limit)

    async def _enqueue_capture(self, call: _CaptureCall) -> asyncpg.Record:
        key = call[0]
        if key not in self._pending:
            self._pending[key] = (call, asyncio.get_running_loop().create_future())
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            task = asyncio.create_task(self._flush_captures())
            self._flush_tasks.add(task)
            task.add_done_callback(self._flush_tasks.discard)
        return await asyncio.shield(self._pending[key][1])

    async def _flush_captures(self) -> None:
        await asyncio.sleep(BATCH_WINDOW_SECONDS)
        pending, self._pending, self._is_flush_scheduled = self._pending, {}, False
        try:
            rows = await self._insert_captures([call for call, _ in pending.values()])
        except Exception as error:
            for _, future in pending.values():
                future.set_exception(NoProviderResponse(repr(error)))
                future.exception()  # whoever asked may have stopped waiting
            return
        for key, (_, future) in pending.items():
            if key in rows:
                future.set_result(rows[key])
            else:  # another process was writing the same key: its row was not visible to our statement
                future.set_exception(NoProviderResponse("busy with this key"))
                future.exception()

    async def _insert_captures(self, calls: list[_CaptureCall]) -> dict[str, asyncpg.Record]:
        outcomes = [_OUTCOME_BY_TOKEN.get(token, ("declined", "invalid_token")) for _, _, token, _, _ in calls]
        columns = list(
            zip(
                *((*row, *outcome, f"ch_{new_id().hex}") for row, outcome in zip(calls, outcomes, strict=True)),
                strict=True,
            )
        )
        rows = await self._database.fetch(_INSERT_CAPTURES, *(list(column) for column in columns))
        return {row["key"]: row for row in rows}
