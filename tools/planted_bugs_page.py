"""The page of planted bugs: a part of `make docs`."""

from collections.abc import Sequence

from tests.mutants.mutant import Mutant

_HEAD = """\
# Planted bugs

A suite that was never seen red proves little.
Each bug of this table is a few lines that turn code of the shop into what real systems have had.
It names the cheapest test that must turn red by it.
`make mutants` plants each in a copy of the tree and runs its test.
It fails when a bug survives, when a test is red for another reason than an assertion, or red without a bug.
`make mutants ONLY="name name"` tries some; `python -m tests.mutants --help` says more.
How to add one: [CONTRIBUTING.md](../../CONTRIBUTING.md).

| Bug | What it breaks, and who had it | Planted in | Seen by |
|---|---|---|---|
"""


def render_planted_bugs(mutants: Sequence[Mutant]) -> str:
    return _HEAD + "".join(
        f"| **{mutant.name}**: {_escape(mutant.bug)} | {_escape(mutant.origin)} | `{mutant.file}` | `{mutant.test}` |\n"
        for mutant in mutants
    )


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
