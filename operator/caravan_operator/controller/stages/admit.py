"""First stage: whether a resource may be reconciled with its connection's broker at all. The rules are those of
`reconcile/admission.py`; this module fetches what they need.
"""

from dataclasses import dataclass

from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.namespace_labels import NamespaceLabels
from caravan_operator.reconcile import RULES, DesiredObject, Rules, parse_desired
from caravan_operator.reconcile.admission import check_admission, find_conflict
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, Condition
from caravan_operator.status.reasons import Reason


@dataclass(frozen=True, slots=True)
class AdmittedResource:
    resource: Resource
    rules: Rules
    desired: DesiredObject


@dataclass(frozen=True, slots=True)
class RejectedResource:
    resource: Resource
    condition: Condition
    """Why its pass ends here."""
    conflict: Resource | None = None
    """The resource that owns the same object."""


class Admission:
    def __init__(self, cache: ResourceCache, namespace_labels: NamespaceLabels) -> None:
        self._cache = cache
        self._namespace_labels = namespace_labels

    async def admit_resource(
        self, resource: Resource, connection: Resource | None
    ) -> AdmittedResource | RejectedResource:
        """Check pauses, permissions, conflicts and the spec, in this order."""
        conflict = find_conflict(resource, self._cache.list_conflicting(resource))
        labels = await self._namespace_labels.get_labels(resource, connection)
        condition = check_admission(resource, connection, conflict, labels)
        if condition is None:
            try:
                return AdmittedResource(resource, RULES[resource.key.kind], parse_desired(resource))
            except UnusableSpec as error:
                condition = Condition(ACCEPTED, False, Reason.INVALID, str(error))
        return RejectedResource(resource, condition, conflict if condition.reason is Reason.CONFLICT else None)
