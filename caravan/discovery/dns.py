"""Discovery by a name pattern (`http://{service}:8080`) that DNS resolves: compose, a cluster without operator."""

from collections.abc import Collection

from caravan.discovery.endpoints import Endpoint, EndpointPool
from caravan.discovery.protocol import Discovery


class DnsDiscovery(Discovery):
    """Names resolve outside: compose and cluster."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._pools: dict[str, EndpointPool] = {}

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        pool = self._pools.get(service)
        if pool is None:
            pool = self._pools[service] = EndpointPool(service)
            pool.update_endpoints([self._pattern.replace("{service}", service)])
        return pool.acquire(tried_urls)

    async def list_services(self) -> set[str]:
        return set()
