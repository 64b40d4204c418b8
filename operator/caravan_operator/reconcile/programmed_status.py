"""The status of a ServiceRoute with regard to the gateways: the snapshot since which they are offered its content,
and the pods that use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caravan_operator.reconcile.service_route import MAX_BYTES, RouteStatus
from caravan_operator.resources.resource import Resource
from caravan_operator.resources.service_route import MAX_PODS
from caravan_operator.status.conditions import ACCEPTED, PROGRAMMED, Condition
from caravan_operator.status.reasons import Reason

PodRevision = tuple[str, str | None, int | None]
"""A pod's name, and the revision and sequence that it has in force."""


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    revision: str
    sequence: int
    oversize_bytes: int = 0
    """Bytes of the snapshot that could not be published; the one above is older."""


def build_programmed_status(
    resource: Resource, route_status: RouteStatus, published: PublishedSnapshot, pods: Sequence[PodRevision]
) -> tuple[Condition, dict[str, Any]]:
    """The condition, and all fields for the status. They move only when this resource's own content does, or a pod's
    knowledge of it.
    """
    previous_status = resource.status
    if published.oversize_bytes:
        message = (
            f"the snapshot of all ServiceRoutes has {published.oversize_bytes} bytes, more than the {MAX_BYTES} that "
            "fit; the last one stays"
        )
        return Condition(PROGRAMMED, False, Reason.SNAPSHOT_TOO_LARGE, message), {
            "endpoints": dict(route_status.endpoints)
        }
    is_published = (
        previous_status.get("contentHash") == route_status.content_hash
        and previous_status.get("configSequence", 0) <= published.sequence
    )
    revision, since_sequence = (
        (previous_status["configRevision"], previous_status["configSequence"])
        if is_published
        else (published.revision, published.sequence)
    )
    current_pods = [pod for pod in pods if (pod[2] or 0) >= since_sequence]
    status_fields = {
        "endpoints": dict(route_status.endpoints),
        "contentHash": route_status.content_hash,
        "configRevision": revision,
        "configSequence": since_sequence,
        "acknowledged": f"{len(current_pods)}/{len(pods)}",
        "gateways": _list_gateways(previous_status.get("gateways") or (), pods, since_sequence),
        "conflict": route_status.conflict,
    }
    return _build_condition(route_status, pods, current_pods), status_fields


def _build_condition(
    route_status: RouteStatus, pods: Sequence[PodRevision], current_pods: Sequence[PodRevision]
) -> Condition:
    acceptance = next(each for each in route_status.conditions if each.type == ACCEPTED)
    if not acceptance.status:
        return Condition(PROGRAMMED, False, acceptance.reason, "its paths are not published")
    if not pods:
        return Condition(
            PROGRAMMED, False, Reason.NO_GATEWAY, "the gateway's Service has no endpoints that could be asked"
        )
    if len(current_pods) == len(pods):
        return Condition(PROGRAMMED, True, Reason.PROGRAMMED)
    pending_pods = [name for name, *_ in pods if name not in {name for name, *_ in current_pods}]
    rest = f" and {len(pending_pods) - 3} more" if len(pending_pods) > 3 else ""
    return Condition(
        PROGRAMMED, False, Reason.PENDING, f"not yet, or not known, at {', '.join(pending_pods[:3])}{rest}"
    )


def _list_gateways(
    previous_entries: Sequence[Any], pods: Sequence[PodRevision], since_sequence: int
) -> list[dict[str, Any]]:
    """An entry stays while the pod has this resource's current content, also when later snapshots follow."""
    previous_by_name = {entry["name"]: entry for entry in previous_entries}
    entries = []
    for name, revision, sequence in pods[:MAX_PODS]:
        entry = {"name": name} | ({} if revision is None else {"revision": revision, "sequence": sequence})
        previous = previous_by_name.get(name, {})
        entries.append(dict(previous) if since_sequence <= previous.get("sequence", 0) <= (sequence or 0) else entry)
    return entries
