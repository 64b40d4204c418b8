"""One custom resource as the operator keeps it: only the fields that it uses, because managed fields and foreign
annotations cost memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from caravan_operator.resources.kinds import (
    CLAIM_ANNOTATION,
    FINALIZER,
    FORCE_FINALIZE_ANNOTATION,
    PAUSED_ANNOTATION,
    RECONCILE_NOW_ANNOTATION,
)

_OWN_ANNOTATIONS = (CLAIM_ANNOTATION, FORCE_FINALIZE_ANNOTATION, PAUSED_ANNOTATION, RECONCILE_NOW_ANNOTATION)


class Key(NamedTuple):
    """Kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    @property
    def namespaced_name(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    key: Key
    uid: str
    generation: int
    resource_version: str
    created_at: datetime
    deleted_at: datetime | None
    annotations: Mapping[str, str]
    finalizers: tuple[str, ...]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def from_body(cls, kind: str, body: Mapping[str, Any]) -> "Resource":
        """From the object as the API server sends it."""
        meta = body["metadata"]
        annotations = meta.get("annotations") or {}
        deleted_at = meta.get("deletionTimestamp")
        return cls(
            key=Key(kind, meta["namespace"], meta["name"]),
            uid=meta["uid"],
            generation=meta.get("generation", 1),
            resource_version=meta["resourceVersion"],
            created_at=datetime.fromisoformat(meta["creationTimestamp"]),
            deleted_at=datetime.fromisoformat(deleted_at) if deleted_at else None,
            annotations={name: annotations[name] for name in _OWN_ANNOTATIONS if name in annotations},
            finalizers=tuple(meta.get("finalizers") or ()),
            spec=dict(body.get("spec") or {}),
            status=dict(body.get("status") or {}),
        )

    @property
    def is_paused(self) -> bool:
        return self.annotations.get(PAUSED_ANNOTATION) == "true"

    @property
    def is_claimed(self) -> bool:
        """Whether this very resource was about to create its object: a copy of the resource in another cluster has
        another uid.
        """
        return self.annotations.get(CLAIM_ANNOTATION) == self.uid

    @property
    def has_finalizer(self) -> bool:
        return FINALIZER in self.finalizers

    @property
    def connection_ref(self) -> tuple[str, str] | None:
        """Namespace and name of its connection, or of its gateway; None for a kind without one."""
        if self.key.kind == "ServiceRoute":
            return self.key.namespace, self.spec.get("gateway", "gateway")
        ref = self.spec.get("connectionRef")
        return (ref.get("namespace") or self.key.namespace, ref.get("name", "")) if ref else None

    @property
    def is_applied(self) -> bool:
        """Whether the present spec was applied in full at some time: a difference is drift."""
        return self.status.get("appliedGeneration") == self.generation

    @property
    def is_owned(self) -> bool:
        return self.is_claimed or "origin" in self.status

    @property
    def trigger_state(self) -> tuple[Any, ...]:
        """What calls for a pass when it changes. The status isn't in it: the operator's own writes must not wake it."""
        annotations = {name: value for name, value in self.annotations.items() if name != CLAIM_ANNOTATION}
        return (self.uid, self.generation, self.deleted_at, tuple(sorted(annotations.items())))

    def get_condition(self, name: str) -> Mapping[str, Any] | None:
        return next((each for each in self.status.get("conditions") or () if each["type"] == name), None)
