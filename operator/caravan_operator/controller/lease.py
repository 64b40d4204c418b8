"""Leadership by a Lease. A standby takes the Lease when its record hasn't changed for its whole duration by the
standby's own clock: no clock is compared with another's.

The leader may write only while its last renewal is fresh (`ensure_held`): a process that was paused is stopped before
it writes, not after. The library's own leader election has no such check, so only its Lease is used.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kubernetes.aio.client import V1Lease, V1LeaseSpec, V1ObjectMeta

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
        self._observed_record: tuple[tuple[str, datetime | None] | None, float] = (None, 0.0)

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
            lease = V1Lease.from_dict(await self._kubernetes.get(self._lease_path))
            if lease and lease.spec and lease.spec.holder_identity == self._identity:
                lease.spec.holder_identity, lease.spec.lease_duration_seconds = "", 1
                await self._kubernetes.request("PUT", self._lease_path, lease, retry_seconds=2.0)
        except ApiError as error:
            log.info("the Lease was not released; it expires", extra={"error": str(error)})

    async def _try_acquire(self) -> bool:
        """Create, renew or take over. The renewal counts from before it was asked for."""
        requested_at = self._clock()
        try:
            answer = await self._kubernetes.request("GET", self._lease_path, retry_seconds=self._margin)
        except ApiError as error:
            if error.status != 404:
                raise
            lease = V1Lease(
                api_version="coordination.k8s.io/v1",
                kind="Lease",
                metadata=V1ObjectMeta(name=LEASE_NAME, namespace=self._namespace),
                spec=self._renew_spec(V1LeaseSpec()),
            )
            return await self._write_lease("POST", self._lease_path.rpartition("/")[0], lease, requested_at)
        lease = V1Lease.from_dict(answer) or V1Lease()
        spec = lease.spec or V1LeaseSpec()
        holder = spec.holder_identity or ""
        record = (holder, spec.renew_time)
        if record != self._observed_record[0]:
            self._observed_record = (record, requested_at)
        duration = spec.lease_duration_seconds or self._duration
        is_fresh = requested_at - self._observed_record[1] < duration
        if holder not in ("", self._identity) and is_fresh:
            return False
        lease.spec = self._renew_spec(spec)
        return await self._write_lease("PUT", self._lease_path, lease, requested_at)

    async def _write_lease(self, method: str, path: str, lease: V1Lease, requested_at: float) -> bool:
        try:
            await self._kubernetes.request(method, path, lease, retry_seconds=self._margin)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        self._renewed_at = requested_at
        return True

    @property
    def _lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{LEASE_NAME}"

    def _renew_spec(self, spec: V1LeaseSpec) -> V1LeaseSpec:
        """Ours from now on. Its times have a fraction in any case: the library writes none for a whole second, and
        the API server refuses such a time.
        """
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond or 1)
        if spec.holder_identity != self._identity:
            spec.acquire_time, spec.lease_transitions = now, (spec.lease_transitions or 0) + 1
        spec.holder_identity, spec.lease_duration_seconds = self._identity, int(self._duration)
        spec.renew_time = now
        return spec
