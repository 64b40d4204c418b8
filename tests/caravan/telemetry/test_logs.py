"""Log lines for people: foreign text is text."""

import io
import logging
import sys

import pytest
import structlog

from caravan import telemetry

HOSTILE = "[bold]x[/bold] \x9b31m\x1b]0;title\x07 \u202eevil\u2066 a\x00b\r\nline two\x7f"


def test_text_logs_escape_foreign_text_and_keep_the_lines_of_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    handlers, configuration = logging.getLogger().handlers[:], structlog.get_config()
    try:
        telemetry.configure_logs("warning", "text")
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            structlog.get_logger("fresh").warning("a reason", reason=HOSTILE, exc_info=True)
    finally:
        logging.getLogger().handlers[:] = handlers
        structlog.configure(**configuration)
    err = capsys.readouterr().err
    assert err.replace("\n", "").isprintable()
    assert "\\x9b31m" in err
    assert err.count("\n") > 3


def test_a_log_that_can_not_be_written_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal was closed: whatever was about to be done is done."""
    handlers, configuration = logging.getLogger().handlers[:], structlog.get_config()
    closed = io.StringIO()
    closed.close()
    try:
        monkeypatch.setattr(sys, "stderr", closed)
        telemetry.configure_logs("warning", "json")
        structlog.get_logger("unheard").warning("nobody reads this")
    finally:
        logging.getLogger().handlers[:] = handlers
        structlog.configure(**configuration)
