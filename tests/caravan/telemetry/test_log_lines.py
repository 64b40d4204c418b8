"""Log lines on their way to a collector: what is on stderr, its ids in their places, no secret, and never a line about
itself.
"""

import logging
from collections.abc import Iterator

import pytest
import structlog

from caravan import telemetry
from caravan.telemetry import log_lines
from caravan.telemetry.log_lines import Line

PARENT = "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"


@pytest.fixture
def sent() -> Iterator[list[Line]]:
    """What would go to a collector."""
    lines: list[Line] = []
    log_lines.send_lines_to(lines.append)
    handlers, configuration = logging.getLogger().handlers[:], structlog.get_config()
    telemetry.configure_logs("info", "json")
    yield lines
    log_lines.send_lines_to(None)
    logging.getLogger().handlers[:] = handlers
    structlog.configure(**configuration)


def test_a_line_is_a_record_with_its_trace_and_its_fields(sent: list[Line]) -> None:
    token = telemetry.traceparent.set(PARENT)
    try:
        structlog.get_logger("fresh").warning("capture without an answer", order_id="42", tries=3)
    finally:
        telemetry.traceparent.reset(token)
    (line,) = sent
    assert (line.event, line.level) == ("capture without an answer", "warning")
    assert line.traceparent == PARENT
    assert line.attributes == {"order_id": "42", "tries": 3}
    assert line.timestamp


def test_secrets_are_left_out_as_on_stderr(sent: list[Line], capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("fresh").error("refused token=canary-one", password="canary-two", nested={"cvv": "canary-3"})
    logging.getLogger("foreign").error("Authorization: Bearer %s", "canary-four")
    assert len(sent) == 2
    assert "canary" not in str(sent)
    assert "canary" not in capsys.readouterr().err


def test_lines_of_other_libraries_are_sent_and_those_about_sending_are_not(sent: list[Line]) -> None:
    logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export logs batch")
    logging.getLogger("aiokafka").error("no leader for %s", "order-created")
    assert [line.event for line in sent] == ["no leader for order-created"]


def test_a_summary_goes_to_the_collector_alone(sent: list[Line], capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.export_summary("messages handled", "orders", PARENT, {"order_id": "42"})
    (line,) = sent
    assert (line.event, line.attributes) == ("messages handled", {"service": "orders", "order_id": "42"})
    assert line.traceparent == PARENT
    assert capsys.readouterr().err == ""


def test_without_a_collector_a_line_is_only_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_lines.emit_line(None, "info", {"event": "here"}) == {"event": "here"}
    log_lines.export_summary("messages handled", "orders", PARENT, {})
