"""One resource on its way through a pass, and many of them at a time."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile import DesiredObject, Rules
from caravan_operator.reconcile.decide import Decision, make_decision
from caravan_operator.reconcile.diff import Diff, LastApplied
from caravan_operator.resources.resource import Resource

MAX_CONCURRENCY = 16


@dataclass(slots=True)
class ReconcileItem:
    resource: Resource
    rules: Rules
    desired: DesiredObject
    diff: Diff = field(default_factory=Diff)
    exists: bool = False
    decision: Decision = field(default_factory=Decision)

    def compare(self, state: Any, *, after_apply: bool = False) -> None:
        """Compare with what the broker has."""
        self.diff = self.rules.compute_diff(self.desired, state, LastApplied.from_resource(self.resource))
        self.exists = state is not None and self.diff.missing_dependency is None
        self.decision = make_decision(
            self.resource,
            self.diff,
            self.exists,
            has_dependencies=bool(self.desired.dependencies),
            after_apply=after_apply,
        )


async def run_concurrently(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """All of it, WRITERS at a time, each begun when its turn has come; the results in order."""
    pending = enumerate(awaitables)
    results: dict[int, Any] = {}

    async def run_worker() -> None:
        for number, each in pending:
            results[number] = await each

    await asyncio.gather(*(run_worker() for _ in range(MAX_CONCURRENCY)))
    return [results[index] for index in sorted(results)]
