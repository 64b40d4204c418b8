"""Leadership by a Lease. A standby takes the Lease when its record hasn't changed for its whole duration by the
standby's own clock: no clock is compared with another's.

The leader may write only while its last renewal is fresh (`ensure_held`): a process that was paused is stopped before
it writes, not after.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.status.metrics import LEADER

log = logging.getLogger(__name__)
LEASE_NAME = "caravan-operator"


class LeaseLost(Exception):
    """This process isn't the leader any more, or can't know: it must end without another write."""


class Lease:
    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        identity: str,
        *,
        duration: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._identity = identity
        self._duration = duration
        self._margin = duration / 5
        self._clock = clock
        self._renewed_at: float | None = None
        self._observed_record: tuple[str, float] = ("", 0.0)

    @property
    def is_held(self) -> bool:
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._duration - self._margin

    def ensure_held(self) -> None:
        """Called right before every write. Raises LeaseLost unless the last renewal is fresh."""
        if not self.is_held:
            raise LeaseLost(f"{self._identity} has not renewed the Lease in time; another process may be writing")

    async def acquire(self) -> None:
        """Wait until this process is the leader."""
        while True:
            try:
                if await self._try_acquire():
                    LEADER.set(1)
                    return
            except ApiError as error:
                log.warning("the Lease can't be read", extra={"error": str(error)})
            await asyncio.sleep(self._duration / 7.5)

    async def renew_until_lost(self) -> None:
        """Renew until it fails for too long. Raises LeaseLost."""
        while True:
            await asyncio.sleep(self._duration / 5)
            self.ensure_held()
            try:
                if not await self._try_acquire():
                    raise LeaseLost("another process holds the Lease")
            except ApiError as error:
                log.warning("the Lease was not renewed", extra={"error": str(error)})

    async def release(self) -> None:
        """Let a standby take over at once."""
        if not self.is_held:
            return
        self._renewed_at = None
        LEADER.set(0)
        try:
            lease = await self._kubernetes.get(self._lease_path)
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kubernetes.request("PUT", self._lease_path, lease, retry_seconds=2.0)
        except ApiError as error:
            log.info("the Lease was not released; it expires", extra={"error": str(error)})

    async def _try_acquire(self) -> bool:
        """Create, renew or take over. The renewal counts from before it was asked for."""
        requested_at = self._clock()
        try:
            lease = await self._kubernetes.request("GET", self._lease_path, retry_seconds=self._margin)
        except ApiError as error:
            if error.status != 404:
                raise
            return await self._write_lease(
                "POST", self._lease_path.rpartition("/")[0], self._build_document({}, is_first=True), requested_at
            )
        spec = lease["spec"]
        holder = spec.get("holderIdentity") or ""
        record = f"{holder}/{spec.get('renewTime')}"
        if record != self._observed_record[0]:
            self._observed_record = (record, requested_at)
        is_fresh = requested_at - self._observed_record[1] < spec.get("leaseDurationSeconds", self._duration)
        if holder not in ("", self._identity) and is_fresh:
            return False
        lease["spec"] = self._build_document(spec, is_first=holder != self._identity)["spec"]
        return await self._write_lease("PUT", self._lease_path, lease, requested_at)

    async def _write_lease(self, method: str, path: str, document: dict[str, Any], requested_at: float) -> bool:
        try:
            await self._kubernetes.request(method, path, document, retry_seconds=self._margin)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        self._renewed_at = requested_at
        return True

    @property
    def _lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{LEASE_NAME}"

    def _build_document(self, spec: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE_NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._duration),
                "acquireTime": now if is_first else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if is_first else 0),
            },
        }
