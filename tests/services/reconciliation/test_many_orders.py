"""Many orders, written by SQL, are compared page by page: one gap among them is found, and memory stays flat."""

import resource
import time
from uuid import UUID

import pytest

from services.reconciliation.store import cases
from services.reconciliation.use_cases import ReconciliationContext
from tests.services.reconciliation.conftest import compare
from tests.services.reconciliation.planting import Planter

ORDER_ID = "('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
ROWS = (
    f"FROM generate_series($1::int, $2::int) AS n, LATERAL (SELECT {ORDER_ID} AS id, now() - interval '1 hour' AS t) o"
)
CREATED = '{"total": {"amount": 2500, "currency": "GBP"}, "lines": [{"sku": "MANY", "quantity": 2}]}'
STATEMENTS = (
    (
        "orders",
        "INSERT INTO event (stream, version, type, data_version, data, time)"
        f" SELECT id, v, 'orders.' || e, 2, CASE v WHEN 1 THEN '{CREATED}' ELSE '{{}}' END::json, t {ROWS},"
        " unnest(ARRAY['OrderCreated', 'InventoryReserved', 'PaymentCompleted', 'OrderShipped', 'OrderDelivered'])"
        " WITH ORDINALITY AS s(e, v)",
    ),
    (
        "processing",
        "INSERT INTO saga (order_id, stock, money, parcel, reason, captured, refunded, processed, closed, version,"
        f" started_at) SELECT id, 'held', 'captured', 'delivered', '', 2500, 0, true, true, 9, t {ROWS}",
    ),
    (
        "payments",
        "INSERT INTO payment (order_id, status, amount, currency, created_at, updated_at)"
        f" SELECT id, 'completed', 2500, 'GBP', t, t {ROWS}",
    ),
    (
        "payments",
        "INSERT INTO payment_attempt (order_id, attempt, state, charge, started_at, finished_at)"
        f" SELECT id, 1, 'captured', 'ch', t, t {ROWS}",
    ),
    (
        "payments",
        "INSERT INTO provider_ledger (key, kind, reference, amount, currency, outcome, charge, at)"
        f" SELECT id || ':1', 'capture', id::text, 2500, 'GBP', 'captured', 'ch', t {ROWS}",
    ),
    (
        "inventory",
        "INSERT INTO reservation (order_id, state, lines, shortages, reason, created_at, updated_at)"
        f" SELECT id, 'shipped', '{{\"MANY\": 2}}'::json, '[]'::json, '', t, t {ROWS}",
    ),
    (
        "inventory",
        "INSERT INTO movement (sku, version, kind, quantity, on_hand, reserved, order_id, actor, reason, time)"
        " SELECT 'MANY', 2 * n + v, k, 2, 0, 0, id, 'test', '', t"
        f" {ROWS}, unnest(ARRAY['reserve', 'ship']) WITH ORDINALITY AS s(k, v)",
    ),
    (
        "shipping",
        "INSERT INTO shipment (order_id, status, parcels, requested_at, shipped_at, delivered_at)"
        f' SELECT id, \'delivered\', \'[{{"sku": "MANY", "quantity": 2}}]\'::json, t, t, t {ROWS}',
    ),
)


async def write_orders(planter: Planter, count: int) -> UUID:
    """So many delivered orders; the one in the middle was captured twice. Its id."""
    for database, statement in STATEMENTS:
        for first in range(1, count + 1, 100_000):
            await planter.connections[database].execute(statement, first, min(first + 99_999, count))
    inventory = planter.connections["inventory"]
    received = "INSERT INTO movement VALUES ('MANY', $2, 'receive', $1, 0, 0, NULL, 'test', '', now())"
    await inventory.executemany(received, [(2 * count, 1), (5, 2)])
    await inventory.execute(
        "INSERT INTO stock (sku, on_hand, shipped, received, version, announced)"
        " VALUES ('MANY', 5, 2 * $1::bigint, 2 * $1::bigint + 5, 2 * $1::bigint + 2, 2 * $1::bigint + 2)",
        count,
    )
    for connection in planter.connections.values():
        await connection.execute("ANALYZE")
    doubled = UUID(f"01900000-0000-7000-8000-{count // 2:012x}")
    await planter.plant_ledger(
        [(f"{doubled}:2", "capture", 2500, "GBP")],
        str(doubled),
        await inventory.fetchval("SELECT now() - interval '1 hour'"),
    )
    return doubled


async def check_many(context: ReconciliationContext, planter: Planter, count: int) -> tuple[float, float]:
    """Seconds, and by how many MB the process has grown."""
    doubled = await write_orders(planter, count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_at = time.monotonic()
    run = await compare(context, "full")
    seconds = time.monotonic() - started_at
    found = [(case.gap_class, case.order_id) for case in await cases.list_unsettled(context.database)]
    assert found == [("double_capture", doubled)]
    assert run.orders >= count
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


async def test_many_orders_are_compared_and_the_one_gap_is_found(
    context: ReconciliationContext, planter: Planter
) -> None:
    await check_many(context, planter, 3_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_million_orders_are_compared_within_five_minutes(
    context: ReconciliationContext, planter: Planter
) -> None:
    assert not await planter.connections["orders"].fetchval("SELECT count(*) FROM event"), "run it alone: -k million"
    seconds, grown = await check_many(context, planter, 1_000_000)
    print(f"1,000,000 orders: {seconds:.0f} s, {grown:.0f} MB more")
    assert seconds <= 300
    assert grown <= 100
