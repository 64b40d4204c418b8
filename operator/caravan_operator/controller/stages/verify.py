"""Last stage: read the objects again after their actions were run, and plan again. A plan that still has actions has
not converged.
"""

from collections.abc import Sequence
from dataclasses import replace

from caravan_operator.backends.broker import Broker, Refusal
from caravan_operator.controller.stages.observe import Observation
from caravan_operator.controller.stages.plan import ResourcePlan, plan_changes


async def verify_plans(broker: Broker, kind: str, applied: Sequence[ResourcePlan]) -> list[ResourcePlan]:
    """New plans, with the events of the applied ones before their own. Raises BrokerUnavailable."""
    if not applied:
        return []
    states = await broker.read_states(kind, [plan.admitted.desired for plan in applied])
    return [_plan_again(plan, state) for plan, state in zip(applied, states, strict=True)]


def _plan_again(applied: ResourcePlan, state: object) -> ResourcePlan:
    observation = Observation(applied.admitted, None if isinstance(state, Refusal) else state)
    verified = plan_changes(observation, after_apply=True)
    events = (*applied.decision.events, *verified.decision.events)
    return replace(verified, decision=replace(verified.decision, events=events))
