"""Each action is written down with who did it, in the unit of work of the action."""

from typing import Any

import pytest

from caravan import telemetry
from caravan.audit import AUDIT, AuditRecorded, record_audit
from caravan.clock import new_id, utc_now
from caravan.messages import Delivery


class Emitted:
    """Stands in for a unit of work."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, AuditRecorded, Any]] = []

    def emit(self, channel: Any, message: AuditRecorded, *, key: object, caused_by: Any = None) -> None:
        self.calls.append((channel, message, key))


@pytest.fixture
def uow() -> Any:
    return Emitted()


def test_a_action_is_the_callers_and_has_its_details(uow: Any) -> None:
    token = telemetry.actor.set("staff:1")
    try:
        record_audit(uow, "price.changed", "product:MUG", old=100, new=120)
    finally:
        telemetry.actor.reset(token)
    [(channel, record, key)] = uow.calls
    assert (channel, key) == (AUDIT, "product:MUG")
    assert (record.actor, record.action, record.target, record.result) == (
        "staff:1",
        "price.changed",
        "product:MUG",
        "done",
    )
    assert record.details == {"old": 100, "new": 120}


def test_what_a_message_causes_is_done_by_whoever_caused_the_message_in_its_trace(uow: Any) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    cause: Delivery[Any] = Delivery(
        AuditRecorded(actor="", action="", target=""),
        new_id(),
        "k",
        utc_now(),
        f"00-{trace_id}-b7ad6b7169203331-01",
        "customer:2",
    )
    record_audit(uow, "payment.captured", "order:1", caused_by=cause)
    record_audit(uow, "login.failed", "user:1", actor="anonymous", result="refused", caused_by=cause)
    records = [record for _, record, _ in uow.calls]
    assert [record.actor for record in records] == ["customer:2", "anonymous"]
    assert {record.trace_id for record in records} == {trace_id}
