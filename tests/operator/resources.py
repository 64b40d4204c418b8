"""Resources for the tests, as the API server would send them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from caravan_operator.resources import FINALIZER
from caravan_operator.resources.resource import Key, Resource

START = datetime(2030, 1, 1, tzinfo=UTC)


def make_resource(
    kind: str = "KafkaTopic",
    name: str = "orders",
    *,
    namespace: str = "shop",
    generation: int = 1,
    age: int = 0,
    deleted: datetime | None = None,
    finalized: bool = False,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Resource:
    if not kind.endswith("Connection"):
        spec.setdefault("connectionRef", {"name": "broker"})
    if kind == "KafkaTopic":
        spec.setdefault("partitions", 3)
    return Resource(
        key=Key(kind, namespace, name),
        uid=f"uid-{namespace}-{name}",
        generation=generation,
        resource_version="1",
        created_at=START - timedelta(seconds=age),
        deleted_at=deleted,
        annotations=annotations or {},
        finalizers=(FINALIZER,) if finalized else (),
        spec=spec,
        status=status or {},
    )
