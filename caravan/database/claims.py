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


async def insert_claims(
    transaction: Transaction, consumer: str, deliveries: Sequence[Delivery[Any]], *, has_types: bool
) -> set[UUID]:
    """The ids of the messages that are new to the consumer. What is usual is left null."""
    rows = await transaction.fetch(
        "INSERT INTO inbox (consumer, message_id, key, cause, type, attempt)"
        " SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::smallint[])"
        " ON CONFLICT DO NOTHING RETURNING message_id",
        consumer,
        [delivery.id for delivery in deliveries],
        [parse_id(delivery.key) for delivery in deliveries],
        [delivery.causation_id for delivery in deliveries],
        [delivery.message.type for delivery in deliveries] if has_types else None,
        [delivery.attempt for delivery in deliveries] if any(each.attempt > 1 for each in deliveries) else None,
    )
    return {row[0] for row in rows}


async def count_refused(
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
