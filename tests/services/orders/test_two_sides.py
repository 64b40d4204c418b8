"""Commands decide by the write side alone, and reads of orders use the read side alone."""

from typing import Any

import pytest

from caravan import telemetry
from caravan.clock import new_id
from tests.services.orders.neighbours import create_order, make_order_body
from tests.support.shop import Shop


class StatementRecorder:
    """Stands for a database's counter of statements, and notes the requests that they are sent for."""

    def __init__(self, name: str, counter: Any, sent: list[tuple[str, str | None]]) -> None:
        self._name = name
        self._counter = counter
        self._sent = sent

    def inc(self) -> None:
        self._sent.append((self._name, telemetry.request_id.get()))
        self._counter.inc()


async def test_a_command_reads_no_read_model_and_a_read_touches_no_event(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = new_id()
    order_id, who = await create_order(shop, user), shop.issue_headers("customer", user)
    databases = shop.get_context("orders").databases
    sent: list[tuple[str, str | None]] = []
    for name, database in databases.items():
        monkeypatch.setattr(database, "statement_counter", StatementRecorder(name, database.statement_counter, sent))

    async def list_databases(method: str, path: str, body: Any = None) -> list[str]:
        """Where a request sends its statements, one after the other."""
        request_id = str(new_id())
        headers = {**who, "x-request-id": request_id, "idempotency-key": str(new_id())}
        answer = await shop.client.request(method, path, json=body, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        return [name for name, its_request in sent if its_request == request_id]

    order_path = f"/v1/orders/{order_id}"
    for path in (order_path, f"{order_path}?min_version=1", "/v1/orders", "/v1/orders?view=full"):
        assert set(await list_databases("GET", path)) == {"orders_read"}, path
    assert "orders" in await list_databases("GET", f"{order_path}?version=1"), "it is folded from the events"
    assert set(await list_databases("POST", "/v1/orders", make_order_body(("MUG", 1)))) == {"orders"}
    cancelling = await list_databases("POST", f"{order_path}/cancel", {})
    assert cancelling[0] == "orders"
    assert cancelling == sorted(cancelling), "the read side is looked at once it is written, to show it"
