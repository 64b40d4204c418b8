"""Fourth stage: claim what is about to be created, then run the actions of all plans together.

A claim is written before the object exists: if the process dies in between, its successor recognizes the object as the
resource's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caravan_operator.backends.broker import Broker
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.controller.resource_writer import ResourceWriter, StaleResource
from caravan_operator.controller.stages.observe import RefusedResource
from caravan_operator.controller.stages.plan import ResourcePlan
from caravan_operator.reconcile.deletion import needs_finalizer
from caravan_operator.resources.resource import Resource


@dataclass(frozen=True, slots=True)
class FailedClaim:
    resource: Resource
    error: StaleResource | ApiError


async def claim_resource(writer: ResourceWriter, plan: ResourcePlan) -> ResourcePlan | FailedClaim:
    """The plan with the resource as claimed; the same plan where no claim is needed."""
    if not plan.decision.needs_claim:
        return plan
    try:
        claimed = await writer.write_claim(plan.resource, finalizer=needs_finalizer(plan.resource))
    except (StaleResource, ApiError) as error:
        return FailedClaim(plan.resource, error)
    return replace(plan, admitted=replace(plan.admitted, resource=claimed))


async def apply_plans(
    broker: Broker, plans: Sequence[ResourcePlan]
) -> tuple[list[ResourcePlan], list[RefusedResource]]:
    """Plans whose actions the broker has taken, and resources that it has refused. Raises BrokerUnavailable."""
    refusals = await broker.apply_actions([plan.decision.actions for plan in plans]) if plans else []
    applied: list[ResourcePlan] = []
    refused: list[RefusedResource] = []
    for plan, refusal in zip(plans, refusals, strict=True):
        if refusal is None:
            applied.append(plan)
        else:
            refused.append(RefusedResource(plan.resource, refusal))
    return applied, refused
