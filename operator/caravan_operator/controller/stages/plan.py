"""Third stage: compare what a resource asks for with what the broker has, and decide what to do about the difference.
The rules are those of `reconcile/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caravan_operator.backends.broker import Broker, Refusal
from caravan_operator.controller.stages.admit import AdmittedResource
from caravan_operator.controller.stages.observe import Observation
from caravan_operator.reconcile.decide import Decision, make_decision
from caravan_operator.reconcile.diff import Diff, LastApplied
from caravan_operator.resources.resource import Resource
from caravan_operator.status.status_patch import limit_lines


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    admitted: AdmittedResource
    diff: Diff
    decision: Decision

    @property
    def resource(self) -> Resource:
        return self.admitted.resource

    @property
    def is_preview(self) -> bool:
        """Whether the changes are only to be shown (`mode: Plan`)."""
        return bool(self.diff.actions) and self.resource.spec.get("mode") == "Plan"


def plan_changes(observation: Observation, *, after_apply: bool = False) -> ResourcePlan:
    """`after_apply`: the actions have been run in this pass, and the state is their result."""
    admitted = observation.admitted
    diff = admitted.rules.compute_diff(
        admitted.desired, observation.state, LastApplied.from_resource(admitted.resource)
    )
    decision = make_decision(
        admitted.resource,
        diff,
        exists=observation.state is not None and diff.missing_dependency is None,
        has_dependencies=bool(admitted.desired.dependencies),
        after_apply=after_apply,
    )
    return ResourcePlan(admitted, diff, decision)


async def preview_plans(broker: Broker, plans: Sequence[ResourcePlan]) -> list[ResourcePlan]:
    """The same plans; one that the broker would refuse says so in `status.plan`. Raises BrokerUnavailable."""
    previews = [plan for plan in plans if plan.is_preview]
    refusals = await broker.apply_actions([plan.diff.actions for plan in previews], dry_run=True) if previews else []
    refusals_by_key = {plan.resource.key: refusal for plan, refusal in zip(previews, refusals, strict=True)}
    return [_add_refusal(plan, refusals_by_key.get(plan.resource.key)) for plan in plans]


def _add_refusal(plan: ResourcePlan, refusal: Refusal | None) -> ResourcePlan:
    if refusal is None:
        return plan
    summaries = [action.summary for action in plan.diff.actions]
    lines = limit_lines([*summaries, f"the broker would refuse: {refusal.message}"])
    return replace(plan, decision=replace(plan.decision, status_fields={**plan.decision.status_fields, "plan": lines}))
