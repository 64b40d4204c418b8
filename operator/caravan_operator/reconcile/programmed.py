"""What the status of a ServiceRoute says of the gateways: since which snapshot they are told its content, and which of them have it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caravan_operator.reconcile.service_route import MAX_BYTES, Verdict
from caravan_operator.resources.resource import Resource
from caravan_operator.resources.service_route import PODS
from caravan_operator.status.conditions import ACCEPTED, PROGRAMMED, Condition
from caravan_operator.status.reasons import Reason

Said = tuple[str, str | None, int | None]
"""A pod's name, and the revision and sequence that it has in force."""


@dataclass(frozen=True, slots=True)
class Published:
    revision: str
    sequence: int
    too_large: int = 0
    """Bytes of the snapshot that could not be published; the one above is older."""


def programmed(resource: Resource, verdict: Verdict, published: Published, pods: Sequence[Said]) -> tuple[Condition, dict[str, Any]]:
    """The condition, and all facts for the status. They move only when this resource's own content does, or a pod's knowledge of it."""
    before = resource.status
    if published.too_large:
        message = (
            f"the snapshot of all ServiceRoutes has {published.too_large} bytes, more than the {MAX_BYTES} that fit; the last one stays"
        )
        return Condition(PROGRAMMED, False, Reason.SNAPSHOT_TOO_LARGE, message), {"endpoints": dict(verdict.endpoints)}
    told = before.get("contentHash") == verdict.content_hash and before.get("configSequence", 0) <= published.sequence
    revision, since = (before["configRevision"], before["configSequence"]) if told else (published.revision, published.sequence)
    having = [pod for pod in pods if (pod[2] or 0) >= since]
    facts = {
        "endpoints": dict(verdict.endpoints),
        "contentHash": verdict.content_hash,
        "configRevision": revision,
        "configSequence": since,
        "acknowledged": f"{len(having)}/{len(pods)}",
        "gateways": _listed(before.get("gateways") or (), pods, since),
        "conflict": verdict.conflict,
    }
    return _condition(verdict, pods, having), facts


def _condition(verdict: Verdict, pods: Sequence[Said], having: Sequence[Said]) -> Condition:
    accepted = next(each for each in verdict.conditions if each.type == ACCEPTED)
    if not accepted.status:
        return Condition(PROGRAMMED, False, accepted.reason, "its paths are not published")
    if not pods:
        return Condition(PROGRAMMED, False, Reason.NO_GATEWAY, "the gateway's Service has no endpoints that could be asked")
    if len(having) == len(pods):
        return Condition(PROGRAMMED, True, Reason.PROGRAMMED)
    waiting = [name for name, *_ in pods if name not in {name for name, *_ in having}]
    more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    return Condition(PROGRAMMED, False, Reason.PENDING, f"not yet, or not known, at {', '.join(waiting[:3])}{more}")


def _listed(before: Sequence[Any], pods: Sequence[Said], since: int) -> list[dict[str, Any]]:
    """An entry stays as long as it says that the pod has the present content: later snapshots change nothing here."""
    stored = {entry["name"]: entry for entry in before}
    listed = []
    for name, revision, sequence in pods[:PODS]:
        entry = {"name": name} | ({} if revision is None else {"revision": revision, "sequence": sequence})
        old = stored.get(name, {})
        listed.append(dict(old) if since <= old.get("sequence", 0) <= (sequence or 0) else entry)
    return listed
