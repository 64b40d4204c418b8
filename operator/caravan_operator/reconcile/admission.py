"""Checks that need no answer of the broker: pauses, permissions, protected names, conflicts."""

from collections.abc import Iterable, Mapping

from caravan_operator.reconcile.patterns import InvalidPattern, check_pattern, is_match
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, PAUSED, Condition
from caravan_operator.status.reasons import Reason

DEFAULT_PROTECTED_TOPICS = ("^__",)
_NEVER_OWNER_REASONS = frozenset({Reason.NAMESPACE_NOT_ALLOWED, Reason.VHOST_NOT_ALLOWED, Reason.PROTECTED})


def check_admission(
    resource: Resource, connection: Resource | None, conflict: Resource | None, labels: Mapping[str, str] | None = None
) -> Condition | None:
    """The condition that stops the pass, or None. `labels` are those of the resource's namespace, where the connection
    selects by them.
    """
    if resource.is_paused:
        return Condition(
            PAUSED,
            True,
            Reason.PAUSED,
            "the annotation paused is set; nothing is changed or deleted until it is removed",
        )
    if connection is None:
        namespace, name = resource.connection_ref or ("", "")
        return Condition(
            CONNECTION_READY, False, Reason.CONNECTION_NOT_FOUND, f"there is no connection {namespace}/{name}"
        )
    if connection.is_paused:
        return Condition(
            PAUSED, True, Reason.CONNECTION_PAUSED, f"connection {connection.key.namespaced_name} is paused"
        )
    return check_permission(resource, connection, labels) or _build_conflict_condition(conflict)


def check_permission(
    resource: Resource, connection: Resource, labels: Mapping[str, str] | None = None
) -> Condition | None:
    """Why the connection doesn't serve this resource, or None."""
    if not _is_namespace_allowed(resource.key.namespace, connection, labels):
        message = (
            f"connection {connection.key.namespaced_name} does not allow namespace {resource.key.namespace} "
            "(allowedNamespaces)"
        )
        return Condition(ACCEPTED, False, Reason.NAMESPACE_NOT_ALLOWED, message)
    vhosts = connection.spec.get("vhosts")
    vhost = resource.spec.get("vhost", "/")
    if vhosts and vhost not in vhosts:
        return Condition(
            ACCEPTED,
            False,
            Reason.VHOST_NOT_ALLOWED,
            f"connection {connection.key.namespaced_name} does not allow vhost {vhost}",
        )
    return _check_protected(resource, connection)


def validate_connection(connection: Resource) -> Condition | None:
    """What is wrong with the connection's own spec, though the API server has taken it; None: nothing."""
    for index, pattern in enumerate(connection.spec.get("protectedTopics") or ()):
        try:
            check_pattern(pattern)
        except InvalidPattern as error:
            message = (
                f"connection {connection.key.namespaced_name}, spec.protectedTopics[{index}]: {pattern!r} is no "
                f"pattern of RE2's syntax ({error})"
            )
            return Condition(ACCEPTED, False, Reason.INVALID, message)
    return None


def is_older(one: Resource, other: Resource) -> bool:
    """Whether `one` wins a conflict: the older one does, and of two of the same second the first by name."""
    return (one.created_at, one.key.namespaced_name) < (other.created_at, other.key.namespaced_name)


def find_conflict(resource: Resource, others: Iterable[Resource]) -> Resource | None:
    """The oldest other resource that owns the same object by right."""
    winner: Resource | None = None
    for other in others:
        acceptance = other.get_condition(ACCEPTED)
        if acceptance and acceptance["status"] == "False" and acceptance["reason"] in _NEVER_OWNER_REASONS:
            continue
        if other.key != resource.key and is_older(other, winner or resource):
            winner = other
    return winner


def _build_conflict_condition(owner: Resource | None) -> Condition | None:
    if owner is None:
        return None
    return Condition(
        ACCEPTED,
        False,
        Reason.CONFLICT,
        f"{owner.key.kind} {owner.key.namespaced_name} is older and owns the same object",
    )


def _check_protected(resource: Resource, connection: Resource) -> Condition | None:
    if resource.key.kind != "KafkaTopic":
        return None
    name = resource.spec.get("topicName") or resource.key.name
    for pattern in connection.spec.get("protectedTopics", DEFAULT_PROTECTED_TOPICS):
        try:
            is_protected = is_match(pattern, name)
        except InvalidPattern:
            return validate_connection(connection)  # which names are protected is unknown, so nothing is changed
        if is_protected:
            return Condition(
                ACCEPTED,
                False,
                Reason.PROTECTED,
                f"topic {name} is protected by {pattern} of connection {connection.key.namespaced_name}",
            )
    return None


def _is_namespace_allowed(namespace: str, connection: Resource, labels: Mapping[str, str] | None) -> bool:
    if namespace == connection.key.namespace:
        return True
    allowed = connection.spec.get("allowedNamespaces") or {}
    match allowed.get("from", "Same"):
        case "All":
            return True
        case "Selector":
            return labels is not None and all(
                labels.get(name) == value for name, value in allowed["matchLabels"].items()
            )
    return False
