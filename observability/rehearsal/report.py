"""Writes what was measured into rehearsals.yaml, from which `make docs` makes the table of alerts."""

import re
from collections.abc import Iterable

from observability.rehearsal.plan import OBSERVABILITY
from observability.rehearsal.rehearse import Outcome


def write_measured(outcomes: Iterable[Outcome]) -> None:
    """Of those that fired in their time, were told and cleared; the lines of the others stay."""
    path = OBSERVABILITY / "rehearsals.yaml"
    text = path.read_text()
    for outcome in outcomes:
        if outcome.fired is not None and outcome.notified is not None and not outcome.problems:
            text = replace_measured(text, outcome.rehearsal.alert, round(outcome.fired))
    path.write_text(text)


def replace_measured(text: str, alert: str, seconds: int) -> str:
    """The text of rehearsals.yaml with these seconds at the end of an alert's line."""
    return re.sub(
        rf"^({alert}: \{{.*?)(?:, measured: \d+)?\}}$", rf"\g<1>, measured: {seconds}}}", text, flags=re.MULTILINE
    )
