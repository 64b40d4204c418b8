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
        return self._get_pool(service).acquire(tried_urls)

    async def list_services(self) -> set[str]:
        return set()

    async def list_endpoints(self, service: str) -> list[Endpoint]:
        """The one name: which replica answers to it, DNS decides."""
        return self._get_pool(service).list_endpoints()

    def _get_pool(self, service: str) -> EndpointPool:
        pool = self._pools.get(service)
        if pool is None:
            pool = self._pools[service] = EndpointPool(service)
            pool.update_endpoints([self._pattern.replace("{service}", service)])
        return pool
