"""From findings to what is done and said: adoption, drift, plan mode. Every kind goes through here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.findings import Action, Findings
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, DEPENDENCIES_READY, DRIFTED, PAUSED, SYNCED, Condition
from caravan_operator.status.document import Event, lines
from caravan_operator.status.reasons import Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """`actions` to run now; without any, `conditions` and `facts` are what the status says."""

    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    """To be told once the actions have succeeded, or with the status."""
    claims: bool = False
    """The object is about to be created: say so on the resource first."""
    drifted: bool = False


def decide(resource: Resource, findings: Findings, exists: bool, *, depends: bool = False, applied: bool = False) -> Decision:
    """`applied`: this pass has run its actions already and looks at the result."""
    good = _good(resource, depends)
    if findings.waiting:
        waiting = Condition(DEPENDENCIES_READY, False, findings.waiting.reason, findings.waiting.message)
        pending = Condition(SYNCED, None, Reason.PENDING, findings.waiting.message)
        return Decision(conditions=(*good, waiting, pending), facts=dict(findings.facts) | _nothing_to_tell())
    adopting = exists and not resource.owned
    if adopting and (refused := _refuse(resource, findings)) is not None and not applied:
        return refused
    planned = resource.spec.get("mode") == "Plan"
    drifted = bool(findings.actions) and resource.applied and not applied
    reported = drifted and resource.spec.get("driftPolicy") == "Report"
    if findings.actions and not planned and not reported:
        created = not exists
        reason = Reason.CREATED if created else Reason.ADOPTED if adopting else Reason.DRIFT_CORRECTED if drifted else Reason.UPDATED
        told = Event(reason, "; ".join(lines(action.line for action in findings.actions)))
        return Decision(findings.actions, events=(told,), claims=created and not resource.claimed, drifted=drifted)
    facts = {**findings.facts, **_nothing_to_tell(), **({} if planned else _ownership(resource, adopting and not planned))}
    found = [action.line for action in findings.actions]
    if planned:
        return Decision(conditions=(*good, *_planned(found, findings)), facts=facts | {"plan": lines(found) or None})
    if reported:
        message = f"{len(found)} differences are reported, not repaired (driftPolicy: Report)"
        said = (Condition(DRIFTED, True, Reason.DRIFT_REPORTED, message), Condition(SYNCED, False, Reason.DRIFT_REPORTED, message))
        return Decision(conditions=(*good, *said), facts=facts | {"drift": lines(found)}, drifted=True)
    events = (Event(Reason.ADOPTED, "took over what was there, unchanged"),) if adopting and not applied else ()
    return Decision(conditions=(*good, *_settled(findings)), facts=facts | {"appliedGeneration": resource.generation}, events=events)


def _good(resource: Resource, depends: bool) -> tuple[Condition, ...]:
    good = [Condition(ACCEPTED, True, Reason.ACCEPTED), Condition(CONNECTION_READY, True, Reason.REACHABLE)]
    if depends:
        good.append(Condition(DEPENDENCIES_READY, True, Reason.FOUND))
    if resource.condition(PAUSED):
        good.append(Condition(PAUSED, False, Reason.RUNNING))
    return tuple(good)


def _nothing_to_tell() -> dict[str, Any]:
    return {"plan": None, "drift": None, "conflict": None}


def _ownership(resource: Resource, adopting: bool) -> dict[str, Any]:
    if adopting:
        return {"origin": "Adopted", "adoptedGeneration": resource.generation}
    return {"origin": resource.status.get("origin", "Created")}


def _refuse(resource: Resource, findings: Findings) -> Decision | None:
    """An object that somebody else has made, and that the adoption policy doesn't let us have."""
    policy = resource.spec.get("adoptionPolicy", "IfEqual")
    different = [action.line for action in findings.actions] + [problem.message for problem in findings.problems]
    if policy == "Adopt" or (policy == "IfEqual" and not different):
        return None
    if policy == "Refuse":
        refused = Condition(
            ACCEPTED, False, Reason.ALREADY_EXISTS, "the object exists already; adoptionPolicy: IfEqual or Adopt would take it over"
        )
    else:
        message = f"the object exists already and {len(different)} things differ (status.drift); adoptionPolicy: Adopt would change them"
        refused = Condition(ACCEPTED, False, Reason.NOT_EQUAL, message)
    said = (refused, Condition(CONNECTION_READY, True, Reason.REACHABLE), Condition(SYNCED, False, refused.reason, refused.message))
    return Decision(conditions=said, facts={"plan": None, "conflict": None, "drift": lines(different) or None})


def _planned(found: list[str], findings: Findings) -> tuple[Condition, ...]:
    if found:
        pending = Condition(SYNCED, False, Reason.PLAN_PENDING, f"{len(found)} changes would be made (status.plan); mode: Apply makes them")
        return (pending, Condition(DRIFTED, False, Reason.NO_DRIFT))
    return _settled(findings)


def _settled(findings: Findings) -> tuple[Condition, ...]:
    if findings.problems:
        first = findings.problems[0]
        message = "; ".join(problem.message for problem in findings.problems)
        return (Condition(SYNCED, False, first.reason, message), Condition(DRIFTED, False, Reason.NO_DRIFT))
    return (Condition(SYNCED, True, Reason.IN_SYNC), Condition(DRIFTED, False, Reason.NO_DRIFT))
