"""Refused requests on their way to the audit log: counted, bounded, and kept while it can't be written."""

from dataclasses import dataclass

from caravan.auth import Caller
from caravan.clock import new_id
from caravan.errors import ServiceUnavailable
from caravan.refusals import (
    ANONYMOUS,
    MAX_RECORDS,
    VARIOUS,
    WINDOW_SECONDS,
    Refusal,
    RefusalRecorder,
    extract_reason,
)


@dataclass
class AuditLog:
    records: list[Refusal]
    is_unavailable: bool = False
    time: float = 0.0

    async def __call__(self, refusals: list[Refusal]) -> None:
        if self.is_unavailable:
            raise ServiceUnavailable("away")
        self.records += refusals

    def now(self) -> float:
        return self.time


def make_recorder() -> tuple[RefusalRecorder, AuditLog]:
    log = AuditLog([])
    return RefusalRecorder(log, log.now), log


async def test_one_that_is_refused_all_the_time_is_recorded_at_once_and_then_once_a_window_with_its_count() -> None:
    recorder, log = make_recorder()
    for second in range(int(WINDOW_SECONDS * 3)):
        log.time = float(second)
        for _ in range(100):
            recorder.record_refusal(401, ANONYMOUS, "192.0.2.1", "GET /v1/orders", "no token")
        await recorder.send_report()
    assert [item.count for item in log.records] == [100, 6000, 6000]
    await recorder.send_report()
    assert len(log.records) == 3


async def test_no_number_of_addresses_writes_more_than_the_bound_and_all_are_counted() -> None:
    recorder, log = make_recorder()
    for number in range(10_000):
        recorder.record_refusal(
            401 + 2 * (number % 2), ANONYMOUS, f"198.51.{number // 250}.{number % 250}", "GET /v1/orders", "x" * 10_000
        )
        if number % 100 == 0:
            await recorder.send_report()
    assert len(recorder._pending) <= MAX_RECORDS + 2
    assert len(log.records) <= MAX_RECORDS + 2
    assert all(len(item.reason) <= 300 for item in log.records)
    log.time = WINDOW_SECONDS
    await recorder.send_report()
    assert sum(item.count for item in log.records) == 10_000
    assert {item.status for item in log.records if item.address == VARIOUS} == {401, 403}


async def test_while_identity_is_away_nothing_is_lost() -> None:
    recorder, log = make_recorder()
    log.is_unavailable = True
    who = Caller(subject=str(new_id()), role="customer", session="s", actor=None, expires_at=0)
    recorder.record_refusal(403, who.audit_name, "192.0.2.1", "GET /v1/users", "for staff")
    await recorder.send_report()
    recorder.record_refusal(403, who.audit_name, "192.0.2.1", "GET /v1/users", "for staff")
    log.is_unavailable = False
    await recorder.send_report()
    assert [(item.actor, item.count) for item in log.records] == [(who.audit_name, 2)]


def test_the_reason_is_what_a_problem_document_says() -> None:
    assert extract_reason(b'{"detail": "for staff"}') == "for staff"
    assert [extract_reason(body) for body in (b"", b"[]", b"{}", b"<html>")] == [""] * 4
