"""Log lines as records: what is on stderr, its ids in their places, no secret, and never a line about itself."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from caravan import telemetry
from caravan.telemetry import log_export

PARENT = "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """What a collector would get."""
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()  # type: ignore[no-untyped-call]
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(log_export, "_logger", provider.get_logger("test"))
    handlers, configuration = logging.getLogger().handlers[:], structlog.get_config()
    telemetry.configure_logs("info", "json")
    yield exporter
    logging.getLogger().handlers[:] = handlers
    structlog.configure(**configuration)


def test_a_line_is_a_record_with_its_trace_and_its_fields(sent: InMemoryLogRecordExporter) -> None:
    token = telemetry.traceparent.set(PARENT)
    try:
        structlog.get_logger("fresh").warning("capture without an answer", order_id="42", tries=3)
    finally:
        telemetry.traceparent.reset(token)
    (record,) = [one.log_record for one in sent.get_finished_logs()]
    assert record.body == "capture without an answer"
    assert (record.severity_text, record.severity_number) == ("WARNING", SeverityNumber.WARN)
    assert f"{record.trace_id:032x}-{record.span_id:016x}" == PARENT[3:52]
    assert record.attributes == {"order_id": "42", "tries": 3}
    assert record.timestamp


def test_secrets_are_left_out_as_on_stderr(sent: InMemoryLogRecordExporter, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("fresh").error("refused token=canary-one", password="canary-two", nested={"cvv": "canary-3"})
    logging.getLogger("foreign").error("Authorization: Bearer %s", "canary-four")
    texts = str([one.log_record.body for one in sent.get_finished_logs()]) + str(
        [one.log_record.attributes for one in sent.get_finished_logs()]
    )
    assert len(sent.get_finished_logs()) == 2
    assert "canary" not in texts
    assert "canary" not in capsys.readouterr().err


def test_lines_of_other_libraries_are_sent_and_those_about_sending_are_not(sent: InMemoryLogRecordExporter) -> None:
    logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export logs batch")
    logging.getLogger("aiokafka").error("no leader for %s", "order-created")
    assert [one.log_record.body for one in sent.get_finished_logs()] == ["no leader for order-created"]


def test_a_summary_goes_to_the_collector_alone(
    sent: InMemoryLogRecordExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    log_export.export_summary("messages handled", "orders", PARENT, {"order_id": "42"})
    (record,) = [one.log_record for one in sent.get_finished_logs()]
    assert (record.body, record.attributes) == ("messages handled", {"service": "orders", "order_id": "42"})
    assert f"{record.trace_id:032x}-{record.span_id:016x}" == PARENT[3:52]
    assert capsys.readouterr().err == ""


def test_without_a_collector_a_line_is_only_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_export.emit_line(None, "info", {"event": "here"}) == {"event": "here"}
    log_export.export_summary("messages handled", "orders", PARENT, {})
