"""What breaks clients that tell errors apart by their type, between two lists of problem types."""

from typing import Any

from tools.compatibility.breaks import Break, make_break

RULES = {
    "problem-removed": "an error type that clients look for is never sent again",
    "problem-status-changed": "an error type has another status",
}


def find_breaks(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[Break]:
    return [
        make_break(RULES, rule, uri)
        for uri, problem in before.items()
        for rule, is_broken in (
            ("problem-removed", uri not in after),
            ("problem-status-changed", uri in after and after[uri]["status"] != problem["status"]),
        )
        if is_broken
    ]
