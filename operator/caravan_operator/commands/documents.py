"""Resources as documents that `kubectl apply` takes; what both imports share."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from caravan_operator.resources import KINDS

Document = dict[str, Any]
SkippedObjects = list[str]
"""Objects that no resource can describe, each with the reason."""


def refuse_write() -> None:
    raise AssertionError("an import only reads")


def to_resource_name(name: str) -> str:
    """A name that Kubernetes accepts, made of the broker's."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:240].rstrip("-.") or "unnamed"


def build_document(kind: str, name: str, connection: str, spec: Mapping[str, Any]) -> Document:
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": to_resource_name(name)},
        "spec": {"connectionRef": {"name": connection}, **spec},
    }


def make_names_unique(documents: Iterable[Document]) -> list[Document]:
    """The same with names that are unique within a kind: two names of the broker may become one of Kubernetes."""
    counts: dict[tuple[str, str], int] = {}
    renamed = []
    for document in documents:
        key = (document["kind"], document["metadata"]["name"])
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > 1:
            document["metadata"]["name"] += f"-{counts[key]}"
        renamed.append(document)
    return renamed
