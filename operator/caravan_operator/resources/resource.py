"""One custom resource as the operator keeps it: what it needs of the API server's object, and no more (managed fields and foreign annotations cost memory)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from caravan_operator.resources.kinds import CLAIM, FINALIZER, FORCE_FINALIZE, PAUSED, RECONCILE_NOW

_OURS = (CLAIM, FORCE_FINALIZE, PAUSED, RECONCILE_NOW)


class Key(NamedTuple):
    """Kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    key: Key
    uid: str
    generation: int
    version: str
    created: datetime
    deleted: datetime | None
    annotations: Mapping[str, str]
    finalizers: tuple[str, ...]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, body: Mapping[str, Any]) -> "Resource":
        """From the object as the API server sends it."""
        meta = body["metadata"]
        annotations = meta.get("annotations") or {}
        deleted = meta.get("deletionTimestamp")
        return cls(
            key=Key(kind, meta["namespace"], meta["name"]),
            uid=meta["uid"],
            generation=meta.get("generation", 1),
            version=meta["resourceVersion"],
            created=datetime.fromisoformat(meta["creationTimestamp"]),
            deleted=datetime.fromisoformat(deleted) if deleted else None,
            annotations={name: annotations[name] for name in _OURS if name in annotations},
            finalizers=tuple(meta.get("finalizers") or ()),
            spec=dict(body.get("spec") or {}),
            status=dict(body.get("status") or {}),
        )

    @property
    def paused(self) -> bool:
        return self.annotations.get(PAUSED) == "true"

    @property
    def claimed(self) -> bool:
        """Whether this very resource was about to create its object: a copy of the resource in another cluster has another uid."""
        return self.annotations.get(CLAIM) == self.uid

    @property
    def finalized(self) -> bool:
        return FINALIZER in self.finalizers

    @property
    def connection(self) -> tuple[str, str] | None:
        """Namespace and name of its connection, or of its gateway; None for a kind without one."""
        if self.key.kind == "ServiceRoute":
            return self.key.namespace, self.spec.get("gateway", "gateway")
        ref = self.spec.get("connectionRef")
        return (ref.get("namespace") or self.key.namespace, ref.get("name", "")) if ref else None

    @property
    def applied(self) -> bool:
        """Whether the present spec was applied in full at some time: what differs now was changed by somebody else."""
        return self.status.get("appliedGeneration") == self.generation

    @property
    def owned(self) -> bool:
        return self.claimed or "origin" in self.status

    @property
    def trigger(self) -> tuple[Any, ...]:
        """What calls for a pass when it changes. The status isn't in it: the operator's own writes must not wake it."""
        asked = {name: value for name, value in self.annotations.items() if name != CLAIM}
        return (self.uid, self.generation, self.deleted, tuple(sorted(asked.items())))

    def condition(self, name: str) -> Mapping[str, Any] | None:
        return next((each for each in self.status.get("conditions") or () if each["type"] == name), None)
