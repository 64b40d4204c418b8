"""Claims of messages: the rows of the inbox by which a message has its effect once. `UnitOfWork.claim_messages` writes
them in the transaction of the effect; `caravan/timeline` reads them.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from caravan.clock import parse_id
from caravan.database.transaction import Transaction
from caravan.messages import Delivery

_IN_ONE_TRIP_MAX = 16
"""So many claims at most are written into the text that begins the transaction: of more, Postgres needs longer to parse
it than the round trip takes.
"""


async def insert_claims(
    transaction: Transaction, consumer: str, deliveries: Sequence[Delivery[Any]], *, has_types: bool
) -> list[Delivery[Any]]:
    """Those that are new to the consumer. What is usual is left null, and so is the answer when all are new, as they
    nearly always are: it need not be read then.
    """
    if not transaction.has_begun and len(deliveries) <= _IN_ONE_TRIP_MAX:
        statement = _write_statement([_write_row(consumer, delivery, has_types=has_types) for delivery in deliveries])
        if await transaction.begin_with(statement) == len(deliveries):
            return list(deliveries)
        await transaction.roll_back()
    claimed_ids: list[UUID] | None = await transaction.fetchval(
        "WITH claimed AS (INSERT INTO inbox (consumer, message_id, key, cause, type, attempt)"
        " SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::smallint[])"
        " ON CONFLICT DO NOTHING RETURNING message_id)"
        " SELECT coalesce(array_agg(message_id), '{}') FROM claimed HAVING count(*) < cardinality($2)",
        consumer,
        [delivery.id for delivery in deliveries],
        [parse_id(delivery.key) for delivery in deliveries],
        [delivery.causation_id for delivery in deliveries],
        [delivery.message.type for delivery in deliveries] if has_types else None,
        [delivery.attempt for delivery in deliveries] if any(each.attempt > 1 for each in deliveries) else None,
    )
    if claimed_ids is None:
        return list(deliveries)
    await _count_refused(transaction, consumer, deliveries, claimed_ids)
    left, new_deliveries = set(claimed_ids), []
    for delivery in deliveries:
        if delivery.id in left:
            left.discard(delivery.id)
            new_deliveries.append(delivery)
    return new_deliveries


def _write_statement(rows: Sequence[str]) -> str:
    return (
        f"INSERT INTO inbox (consumer, message_id, key, cause, type, attempt) VALUES {', '.join(rows)}"
        " ON CONFLICT DO NOTHING"
    )


def _write_row(consumer: str, delivery: Delivery[Any], *, has_types: bool) -> str:
    """Names that we gave, ids and a number: nothing of it is foreign text."""
    values = (parse_id(delivery.key), delivery.causation_id, delivery.message.type if has_types else None)
    key, cause, message_type = ["NULL" if value is None else f"'{value}'" for value in values]
    attempt = delivery.attempt if delivery.attempt > 1 else "NULL"
    return f"('{consumer}', '{delivery.id}', {key}, {cause}, {message_type}, {attempt})"


async def _count_refused(
    transaction: Transaction, consumer: str, deliveries: Sequence[Delivery[Any]], claimed_ids: Collection[UUID]
) -> None:
    """Count the deliveries of messages that came before, each on the row of its message."""
    counts = Counter(delivery.id for delivery in deliveries)
    counts.subtract(claimed_ids)
    refused = sorted((message_id, count) for message_id, count in counts.items() if count)
    await transaction.fetch(
        "UPDATE inbox SET refused = coalesce(refused, 0) + n FROM unnest($2::uuid[], $3::int[]) AS came (id, n)"
        " WHERE consumer = $1 AND message_id = id",
        consumer,
        [message_id for message_id, _ in refused],
        [count for _, count in refused],
    )
