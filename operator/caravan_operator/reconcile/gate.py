"""What is settled before the broker is asked: pauses, permissions, protected names, conflicts."""

from collections.abc import Iterable, Mapping

from caravan_operator.reconcile.patterns import BadPattern, check, found_in
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, PAUSED, Condition
from caravan_operator.status.reasons import Reason

PROTECTED_TOPICS = ("^__",)
_NO_RIVAL = frozenset({Reason.NAMESPACE_NOT_ALLOWED, Reason.VHOST_NOT_ALLOWED, Reason.PROTECTED})


def gate(
    resource: Resource, connection: Resource | None, rival: Resource | None, labels: Mapping[str, str] | None = None
) -> Condition | None:
    """The condition that stops the pass, or None. `labels` are those of the resource's namespace, where the connection selects by them."""
    if resource.paused:
        return Condition(PAUSED, True, Reason.PAUSED, "the annotation paused is set; nothing is changed or deleted until it is removed")
    if connection is None:
        namespace, name = resource.connection or ("", "")
        return Condition(CONNECTION_READY, False, Reason.CONNECTION_NOT_FOUND, f"there is no connection {namespace}/{name}")
    if connection.paused:
        return Condition(PAUSED, True, Reason.CONNECTION_PAUSED, f"connection {connection.key.path} is paused")
    return forbidden(resource, connection, labels) or _conflict(rival)


def forbidden(resource: Resource, connection: Resource, labels: Mapping[str, str] | None = None) -> Condition | None:
    """Why the connection doesn't serve this resource, or None."""
    if not _allowed(resource.key.namespace, connection, labels):
        message = f"connection {connection.key.path} does not allow namespace {resource.key.namespace} (allowedNamespaces)"
        return Condition(ACCEPTED, False, Reason.NAMESPACE_NOT_ALLOWED, message)
    vhosts = connection.spec.get("vhosts")
    vhost = resource.spec.get("vhost", "/")
    if vhosts and vhost not in vhosts:
        return Condition(ACCEPTED, False, Reason.VHOST_NOT_ALLOWED, f"connection {connection.key.path} does not allow vhost {vhost}")
    return _protected(resource, connection)


def invalid(connection: Resource) -> Condition | None:
    """What is wrong with the connection's own spec, though the API server has taken it; None: nothing."""
    for place, pattern in enumerate(connection.spec.get("protectedTopics") or ()):
        try:
            check(pattern)
        except BadPattern as error:
            message = (
                f"connection {connection.key.path}, spec.protectedTopics[{place}]: {pattern!r} is no pattern of RE2's syntax ({error})"
            )
            return Condition(ACCEPTED, False, Reason.INVALID, message)
    return None


def older(one: Resource, other: Resource) -> bool:
    """Whether `one` wins a conflict: the older one does, and of two of the same second the first by name."""
    return (one.created, one.key.path) < (other.created, other.key.path)


def rival(resource: Resource, others: Iterable[Resource]) -> Resource | None:
    """The oldest other resource that owns the same object by right."""
    winner: Resource | None = None
    for other in others:
        accepted = other.condition(ACCEPTED)
        if accepted and accepted["status"] == "False" and accepted["reason"] in _NO_RIVAL:
            continue
        if other.key != resource.key and older(other, winner or resource):
            winner = other
    return winner


def _conflict(found: Resource | None) -> Condition | None:
    if found is None:
        return None
    return Condition(ACCEPTED, False, Reason.CONFLICT, f"{found.key.kind} {found.key.path} is older and owns the same object")


def _protected(resource: Resource, connection: Resource) -> Condition | None:
    if resource.key.kind != "KafkaTopic":
        return None
    name = resource.spec.get("topicName") or resource.key.name
    for pattern in connection.spec.get("protectedTopics", PROTECTED_TOPICS):
        try:
            hit = found_in(pattern, name)
        except BadPattern:
            return invalid(connection)  # what is protected can't be told, so nothing is touched
        if hit:
            return Condition(
                ACCEPTED, False, Reason.PROTECTED, f"topic {name} is protected by {pattern} of connection {connection.key.path}"
            )
    return None


def _allowed(namespace: str, connection: Resource, labels: Mapping[str, str] | None) -> bool:
    if namespace == connection.key.namespace:
        return True
    allowed = connection.spec.get("allowedNamespaces") or {}
    match allowed.get("from", "Same"):
        case "All":
            return True
        case "Selector":
            return labels is not None and all(labels.get(name) == value for name, value in allowed["matchLabels"].items())
    return False
