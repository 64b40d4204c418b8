"""Temporary tables with the names and columns of the services' own, filled from JSON: for the self-test, which reads
them by the statements that read the real ones. They end with their transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from caravan.database import UnitOfWork
from services.reconciliation.model.books import ORDER_SERVICES
from services.reconciliation.store.books import Books

_TABLES = {
    "event": """CREATE TEMP TABLE event ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(stream uuid, version int, type text, time timestamptz)""",
    "order_amount": """CREATE TEMP TABLE order_amount ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, amount bigint, currency text, lines json)""",
    "payment": """CREATE TEMP TABLE payment ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, status text, amount bigint, currency text, due_at timestamptz, updated_at timestamptz)""",
    "payment_attempt": """CREATE TEMP TABLE payment_attempt ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, attempt int, state text, started_at timestamptz, finished_at timestamptz)""",
    "refund": """CREATE TEMP TABLE refund ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, state text, amount bigint, requested_at timestamptz, refunded_at timestamptz)""",
    "reservation": """CREATE TEMP TABLE reservation ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, state text, lines json, updated_at timestamptz)""",
    "shipment": """CREATE TEMP TABLE shipment ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, status text, parcels json, requested_at timestamptz, shipped_at timestamptz,
            delivered_at timestamptz, cancelled_at timestamptz)""",
    "saga": """CREATE TEMP TABLE saga ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(order_id uuid, closed boolean, started_at timestamptz)""",
    "stock": """CREATE TEMP TABLE stock ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(sku text, version bigint, on_hand bigint, reserved bigint, shipped bigint, received bigint,
            adjusted bigint)""",
    "movement": """CREATE TEMP TABLE movement ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(sku text, version bigint, kind text, quantity bigint)""",
    "outbox": """CREATE TEMP TABLE outbox ON COMMIT DROP AS SELECT * FROM json_to_recordset($1::json)
        AS t(id bigint, channel text, key text, created_at timestamptz, refused_at timestamptz)""",
}


async def create_books(uow: UnitOfWork, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Books:
    """Books that are these rows by table."""
    for table, text in _TABLES.items():
        await uow.execute(text, orjson.dumps(rows.get(table, [])).decode())
    return Books(dict.fromkeys(ORDER_SERVICES, uow))
