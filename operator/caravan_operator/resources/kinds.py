"""A kind of custom resource and its CustomResourceDefinition."""

from dataclasses import dataclass
from typing import Any

from caravan_operator.resources.schema import Schema, object_schema

MESSAGING = "messaging.caravan.dev"
DISCOVERY = "discovery.caravan.dev"
VERSION = "v1alpha1"

FINALIZER = f"{MESSAGING}/external-object"
PAUSED_ANNOTATION = f"{MESSAGING}/paused"
FORCE_FINALIZE_ANNOTATION = f"{MESSAGING}/force-finalize"
RECONCILE_NOW_ANNOTATION = f"{MESSAGING}/reconcile-now"
SERVERS_ANNOTATION = f"{MESSAGING}/servers"
"""On a Secret: the servers that its values may be used at. Whoever may name a Secret in a connection need not be one
who may read it.
"""
CLAIM_ANNOTATION = f"{MESSAGING}/claim"
"""Written before the operator creates an object: the resource's uid. After a crash it distinguishes the operator's own
object from a foreign one.
"""


@dataclass(frozen=True)
class Column:
    """A printer column of `kubectl get`; `priority` 1 shows only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_schema(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "jsonPath": self.path} | (
            {"priority": self.priority} if self.priority else {}
        )


def condition_column(name: str, condition: str, field: str = "status", priority: int = 0) -> Column:
    return Column(name, f'.status.conditions[?(@.type=="{condition}")].{field}', priority=priority)


@dataclass(frozen=True)
class Kind:
    """One custom resource: its names, schema, rules and columns."""

    name: str
    plural: str
    short_name: str
    description: str
    spec: Schema
    status: Schema
    columns: tuple[Column, ...]
    rules: tuple[Schema, ...] = ()
    group: str = MESSAGING
    version: str = VERSION
    connection_kind: str | None = None
    """The kind of its `connectionRef`, or what else it is worked on together by; None for a connection itself."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    def build_crd(self) -> dict[str, Any]:
        """The CustomResourceDefinition as the API server takes it."""
        names = {
            "kind": self.name,
            "plural": self.plural,
            "singular": self.name.lower(),
            "shortNames": [self.short_name],
            "categories": ["caravan"],
        }
        root = object_schema(
            self.description, {"spec": self.spec, "status": self.status}, required=("spec",), rules=self.rules
        )
        columns = [
            column.to_schema() for column in (*self.columns, Column("Age", ".metadata.creationTimestamp", "date"))
        ]
        version = {
            "name": self.version,
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": root},
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns,
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{self.group}"},
            "spec": {"group": self.group, "scope": "Namespaced", "names": names, "versions": [version]},
        }
