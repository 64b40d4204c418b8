"""`caravan status` ends with where more is to be seen."""

import pytest

from cli.status import _print_links


def test_the_dashboards_and_alerts_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_GRAFANA_URL", "https://grafana.example.com")
    monkeypatch.setenv("GATEWAY_ALERTS_URL", "https://alerts.example.com")
    _print_links()
    lines = capsys.readouterr().out.splitlines()
    assert "Dashboards: https://grafana.example.com" in lines
    assert lines[-1] == "Alerts: https://alerts.example.com"


def test_nothing_is_said_without_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    _print_links()
    assert capsys.readouterr().out == ""


def test_an_address_that_leads_nowhere_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_TRACE_URL", "https://jaeger.example.com/trace/")
    with pytest.raises(SystemExit):
        _print_links()
    assert "GATEWAY_TRACE_URL" in capsys.readouterr().err
