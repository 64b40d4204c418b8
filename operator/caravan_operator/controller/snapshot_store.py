"""Keeps the routing snapshot of a gateway in a ConfigMap, from which processes start while the operator is
unavailable. `snapshot_server.py` serves the same snapshot to running ones.
"""

import logging
from typing import Any

from caravan_operator.backends.broker import Fence
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.reconcile.programmed_status import PublishedSnapshot
from caravan_operator.reconcile.service_route import CompiledSnapshot, parse_revision
from caravan_operator.resources.resource import Key

log = logging.getLogger(__name__)
SNAPSHOT_FILE = "snapshot.json"


class SnapshotStore:
    def __init__(self, kubernetes: Kubernetes, fence: Fence) -> None:
        self._kubernetes = kubernetes
        self._fence = fence

    async def store_snapshot(
        self, gateway: Key, compiled: CompiledSnapshot, min_sequence: int
    ) -> tuple[PublishedSnapshot, bool]:
        """Write it unless the ConfigMap holds the same already; returns what it holds now, and whether it was written.
        Raises ApiError.
        """
        base = f"/api/v1/namespaces/{gateway.namespace}/configmaps"
        name = f"caravan-routing-{gateway.name}"
        try:
            config_map: dict[str, Any] | None = await self._kubernetes.get(f"{base}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            config_map = None
        stored = parse_revision(((config_map or {}).get("data") or {}).get(SNAPSHOT_FILE, ""))
        if stored is not None and stored[0] == compiled.revision:
            return PublishedSnapshot(*stored), False
        sequence = max(min_sequence, stored[1] + 1 if stored else 0)
        body = config_map or {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": gateway.namespace,
                "labels": {"app.kubernetes.io/managed-by": "caravan-operator"},
            },
        }
        body["data"] = {SNAPSHOT_FILE: compiled.render_document(sequence).decode()}
        self._fence()
        await self._kubernetes.request("PUT" if config_map else "POST", f"{base}/{name}" if config_map else base, body)
        log.info(
            "snapshot published",
            extra={"gateway": gateway.namespaced_name, "sequence": sequence, "revision": compiled.revision},
        )
        return PublishedSnapshot(compiled.revision, sequence), True
