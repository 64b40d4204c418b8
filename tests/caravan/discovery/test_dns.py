"""Services found by their names, which DNS resolves."""

from caravan.discovery.dns import DnsDiscovery


async def test_each_service_is_one_endpoint_by_its_name() -> None:
    discovery = DnsDiscovery("http://{service}:8080")
    assert (await discovery.acquire_endpoint("orders")).url == "http://orders:8080"
    assert (await discovery.acquire_endpoint("orders")).url == "http://orders:8080"
    assert await discovery.list_services() == set(), "nobody lists names"
    assert [endpoint.url for endpoint in await discovery.list_endpoints("orders")] == ["http://orders:8080"]
