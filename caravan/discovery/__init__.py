"""Which URL a service answers at, and whether it may be called now.

Three kinds of discovery: by DNS, by a table that each process writes its URL into, by the operator's routing snapshot.
`caravan/client/caller.py` and the gateway call endpoints through them.
"""

from caravan.discovery.breaker import Breaker, RetryBudget
from caravan.discovery.database import DatabaseDiscovery
from caravan.discovery.dns import DnsDiscovery
from caravan.discovery.endpoints import Endpoint, EndpointPool
from caravan.discovery.protocol import DEFAULT_POLICY, HEARTBEAT_SECONDS, Discovery
from caravan.discovery.routing_snapshot import CircuitBreaker, Policy, Snapshot
from caravan.discovery.snapshot import SnapshotDiscovery

__all__ = [
    "DEFAULT_POLICY",
    "HEARTBEAT_SECONDS",
    "Breaker",
    "CircuitBreaker",
    "DatabaseDiscovery",
    "Discovery",
    "DnsDiscovery",
    "Endpoint",
    "EndpointPool",
    "Policy",
    "RetryBudget",
    "Snapshot",
    "SnapshotDiscovery",
]
