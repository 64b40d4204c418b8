"""One resource on its way through a pass, and many of them at a time."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile import Rules, Wanted
from caravan_operator.reconcile.decide import Decision, decide
from caravan_operator.reconcile.findings import Findings, Remembered
from caravan_operator.resources.resource import Resource

WRITERS = 16


@dataclass(slots=True)
class Item:
    resource: Resource
    rules: Rules
    wanted: Wanted
    findings: Findings = field(default_factory=Findings)
    exists: bool = False
    decision: Decision = field(default_factory=Decision)

    def judge(self, state: Any, *, applied: bool = False) -> None:
        """Compare with what the broker has."""
        self.findings = self.rules.plan(self.wanted, state, Remembered.of(self.resource))
        self.exists = state is not None and self.findings.waiting is None
        self.decision = decide(self.resource, self.findings, self.exists, depends=bool(self.wanted.needs), applied=applied)


async def together(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """All of it, WRITERS at a time, each begun when its turn has come; the results in order."""
    coming = enumerate(work)
    results: dict[int, Any] = {}

    async def writer() -> None:
        for number, each in coming:
            results[number] = await each

    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    return [results[number] for number in sorted(results)]
