"""The last lines of a run say how many inputs were tried."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    inputs = sum(int(str(value)) for report in reports for name, value in report.user_properties if name == "inputs")
    if inputs:
        terminalreporter.write_line(
            f"fuzz: {inputs} generated and hostile requests, none of which broke a promise of the document"
        )
