"""Where clients reach the shop is not where its processes reach each other."""

from caravan.runtime import Backends, Process, run_migrations
from caravan.settings import Settings
from services.identity.client import ACCEPT_TOKEN, GET_KEY_SET
from services.registry import load_services
from tests.support.shop import Issuer


async def test_other_processes_are_told_where_a_process_listens_and_not_its_public_address(backends: Backends) -> None:
    services = [*load_services(["catalog"]), Issuer().build_service()]
    await run_migrations(services, backends)
    public, listens = "https://shop.example.com", "http://127.0.0.1:7"
    kernel_settings = Settings(drain_seconds=2)
    async with Process(
        services, kernel_settings, backends, GET_KEY_SET, ACCEPT_TOKEN, public, address=listens
    ) as process:
        assert (await process.discovery.acquire_endpoint("catalog")).url == listens
        assert process.contexts["catalog"].url == public
