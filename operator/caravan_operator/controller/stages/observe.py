"""Second stage: read the objects of one kind from the broker, all of them in one call of its backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caravan_operator.backends.broker import Broker, Refusal
from caravan_operator.controller.stages.admit import AdmittedResource
from caravan_operator.resources.resource import Resource


@dataclass(frozen=True, slots=True)
class Observation:
    admitted: AdmittedResource
    state: Any
    """What the broker has, in the backend's own type; None: nothing."""


@dataclass(frozen=True, slots=True)
class RefusedResource:
    """The broker refuses to show, or to change, this object alone."""

    resource: Resource
    refusal: Refusal


async def observe_objects(
    broker: Broker, kind: str, admitted: Sequence[AdmittedResource]
) -> tuple[list[Observation], list[RefusedResource]]:
    """Raises BrokerUnavailable."""
    states = await broker.read_states(kind, [each.desired for each in admitted])
    observations: list[Observation] = []
    refused: list[RefusedResource] = []
    for each, state in zip(admitted, states, strict=True):
        if isinstance(state, Refusal):
            refused.append(RefusedResource(each.resource, state))
        else:
            observations.append(Observation(each, state))
    return observations, refused
