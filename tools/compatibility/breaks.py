"""A break: something that a client of the last release relied on. CHANGELOG.md may allow it by its name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HEADING = "### Breaking"


@dataclass(frozen=True, order=True)
class Break:
    """`rule` is the key of a rule, `subject` is where it was broken: together they are the name that CHANGELOG.md
    gives.
    """

    rule: str
    subject: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.rule} {self.subject}".replace("`", "'")


def make_break(rules: Mapping[str, str], rule: str, subject: str, detail: str = "") -> Break:
    """`rules` say what each rule means to a client."""
    return Break(rule, subject, f"{subject}: {detail} ({rules[rule]})" if detail else f"{subject}: {rules[rule]}")


def list_allowed_names(changelog: str) -> set[str]:
    """What the newest version's section of CHANGELOG.md names under "Breaking", each with what a client does now."""
    newest = re.split(r"^## ", changelog, flags=re.MULTILINE)[1]
    sections = re.split(rf"^{HEADING}\s*$", newest, flags=re.MULTILINE)[1:]
    lines = [line for section in sections for line in re.split(r"^#", section, flags=re.MULTILINE)[0].splitlines()]
    return {found[1] for line in lines if (found := re.match(r"- `([^`]+)`: \S", line))}


def describe_breaks(breaks: Iterable[Break]) -> str:
    """What is broken, and what to do about it."""
    lines = [f"- {each.text}\n    - `{each.name}`: <what a client does now>" for each in sorted(breaks)]
    return "\n".join(
        [
            "These changes break clients of the last release (docs/baseline):",
            *lines,
            "Keep what clients use, and add the new beside it. Where that can't be, copy the indented line into",
            f'CHANGELOG.md, under "{HEADING}" of the newest version, and say there what a client does now.',
            "See docs/how-to/compatibility.md.",
        ]
    )
