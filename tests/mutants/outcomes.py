"""A plugin of pytest that writes how each test ended, with the kinds of what it raised, to the file in MUTANT_OUTCOMES,
and what `python -m tests.mutants` makes of it.
"""

import json
import os
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Outcome:
    """One phase of a test that was not passed over in silence: `phase` is "setup", "call", "teardown" or "collect".

    `reason` is the last line of what it said.
    """

    test: str
    phase: str
    result: str
    is_assertion: bool = False
    reason: str = ""


def read_outcomes(path: Path) -> list[Outcome]:
    return [Outcome(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def find_fault(outcomes: list[Outcome], test: str) -> str:
    """Why a test, or the tests of its parameters, did not pass; empty where they did."""
    own = [outcome for outcome in outcomes if _is_of(outcome, test)]
    for outcome in own:
        if outcome.result != "passed":
            return f"{outcome.phase} {outcome.result}: {outcome.reason}"
    return "" if any(outcome.phase == "call" for outcome in own) else "the test did not run"


def find_survival(outcomes: list[Outcome], test: str) -> str:
    """Why a mutant is not caught: its test passed, or failed otherwise than by an assertion. Empty where it is."""
    own = [outcome for outcome in outcomes if _is_of(outcome, test)]
    if any(outcome.phase == "call" and outcome.result == "failed" and outcome.is_assertion for outcome in own):
        return ""
    fault = find_fault(outcomes, test)
    return f"red for another reason than an assertion: {fault}" if fault else "SURVIVED: the test is green"


def _is_of(outcome: Outcome, test: str) -> bool:
    return outcome.test == test or outcome.test.startswith(f"{test}[") or outcome.phase == "collect"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.outcome != "passed":
        error = call.excinfo.value if call.excinfo else None
        _write(
            Outcome(
                item.nodeid,
                report.when,
                report.outcome,
                error is not None and any(_is_assertion(leaf) for leaf in _list_leaves(error)),
                _format_reason(error),
            )
        )
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        lines = report.longreprtext.strip().splitlines()
        _write(Outcome(report.nodeid, "collect", "failed", reason=lines[-1] if lines else ""))


def _list_leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _list_leaves(each)
    else:
        yield error


def _is_assertion(error: BaseException) -> bool:
    """`pytest.fail` is one, which `pytest.raises` says too, but no limit of time."""
    if isinstance(error, pytest.fail.Exception):
        return "Timeout" not in str(error)
    return isinstance(error, AssertionError)


def _format_reason(error: BaseException | None) -> str:
    if error is None:
        return ""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]


def _write(outcome: Outcome) -> None:
    with Path(os.environ["MUTANT_OUTCOMES"]).open("a") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")
