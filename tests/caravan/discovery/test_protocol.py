"""What a kind of discovery that knows addresses only leaves to the protocol."""

from collections.abc import Collection

from caravan.discovery import Discovery, DnsDiscovery, Endpoint, EndpointPool


class OneAddress(Discovery):
    """As little as a kind of discovery has to say."""

    def __init__(self) -> None:
        self.pool = EndpointPool("pets")
        self.pool.update_endpoints(["http://a"])

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        return self.pool.acquire(tried_urls)

    async def list_services(self) -> set[str]:
        return {"pets"}


async def test_without_a_snapshot_nothing_is_public_by_it_and_there_is_nothing_to_follow() -> None:
    discovery = OneAddress()
    listened: list[None] = []
    discovery.add_change_listener(lambda: listened.append(None))
    await discovery.watch_changes()
    await discovery.register_services(["pets"], "http://a")
    await discovery.deregister_url("http://a")
    assert (discovery.current_snapshot, discovery.get_status(), listened) == (None, None, [])
    assert (await discovery.acquire_endpoint("pets")).url == "http://a"
    assert await discovery.list_endpoints("pets") == []


def test_by_default_what_reached_nobody_is_sent_again_and_a_read_is_tried_once_more() -> None:
    for discovery in (OneAddress(), DnsDiscovery("http://{service}:8080")):
        retry = discovery.get_policy("pets").retry
        assert retry.unsent
        assert (retry.attempts, "GET" in retry.methods, "POST" in retry.methods) == (1, True, False)
