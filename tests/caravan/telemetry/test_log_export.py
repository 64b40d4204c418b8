"""Lines reach a collector, and one that is away holds nobody up."""

import time

from caravan.telemetry import log_lines
from caravan.telemetry.log_export import export_logs
from tests.support.collector import run_collector
from tests.support.shop import wait_until

PARENT = "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"


async def test_a_line_is_sent_to_the_collector() -> None:
    with run_collector() as collector:
        end_export = export_logs(collector.endpoint, {"service.name": "all"})
        try:
            log_lines.export_summary("messages handled", "orders", PARENT, {"order_id": "42"})

            async def has_come() -> bool:
                return bool(collector.list_records())

            await wait_until(has_come)
        finally:
            end_export()
        assert collector.list_lines() == [{"event": "messages handled", "service": "orders", "order_id": "42"}]


def test_the_last_lines_of_a_process_are_sent_when_it_ends() -> None:
    with run_collector() as collector:
        end_export = export_logs(collector.endpoint, {"service.name": "all"})
        log_lines.export_summary("messages handled", "orders", PARENT, {"order_id": "42"})
        end_export()
        assert [line["order_id"] for line in collector.list_lines()] == ["42"]
    assert not log_lines.is_exporting_logs()


def test_without_a_collector_at_its_address_a_line_takes_no_time() -> None:
    end_export = export_logs("http://127.0.0.1:9", {"service.name": "all"})
    try:
        began = time.perf_counter()
        for _ in range(10_000):  # more than the queue holds
            log_lines.export_summary("messages handled", "orders", PARENT, {})
        assert time.perf_counter() - began < 5
    finally:
        end_export()
