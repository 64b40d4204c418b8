"""Where clients reach the shop is not where its processes reach each other."""

from caravan.runtime import Backends, Process, migrate
from caravan.settings import Settings
from services.__main__ import load
from services.identity.client import KEYS
from tests.shop import Issuer


async def test_other_processes_are_told_where_a_process_listens_and_not_its_public_address(backends: Backends) -> None:
    services = [*load(["catalog"]), Issuer().service()]
    await migrate(services, backends)
    public, listens = "https://shop.example.com", "http://127.0.0.1:7"
    async with Process(services, Settings(drain_seconds=2), backends, KEYS, public, address=listens) as process:
        assert (await process.discovery.locate("catalog")).url == listens
        assert process.contexts["catalog"].url == public
