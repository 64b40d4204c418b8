"""What a service says of the process that it runs in: rates, what waits, breakers, cache.

`schemas.py` has the shapes and the operation that every service answers; `rates.py` reads the metrics that the process
keeps anyhow; `report.py` puts the answer together; `rebuilds.py` tells how
far a read model is that is made anew. The gateway asks every process of every service for `/v1/system`.
"""

from caravan.status.rebuilds import RebuildProgress, find_rebuilds, record_rebuild
from caravan.status.report import StatusReporter
from caravan.status.schemas import (
    BreakerStatus,
    CacheStatus,
    Flow,
    OutboxStatus,
    PublishedFlow,
    RequestFlow,
    ServiceStatus,
    StatusRequest,
    SubscriptionFlow,
    build_status_operation,
)

__all__ = [
    "BreakerStatus",
    "CacheStatus",
    "Flow",
    "OutboxStatus",
    "PublishedFlow",
    "RebuildProgress",
    "RequestFlow",
    "ServiceStatus",
    "StatusReporter",
    "StatusRequest",
    "SubscriptionFlow",
    "build_status_operation",
    "find_rebuilds",
    "record_rebuild",
]
