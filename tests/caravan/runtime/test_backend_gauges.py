"""What a process tells of its backends, asked of real ones."""

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from caravan.runtime import Backends
from caravan.runtime.backend_gauges import BackendGauges
from tests.support.shop import run_services, wait_until


def read(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_running_process_knows_its_sessions_pools_and_memory(backends: Backends) -> None:
    async with run_services(backends, "payments", "shipping"):

        async def are_known() -> bool:
            """All of them: the registry may hold some of what an earlier test's process has asked."""
            active = read("caravan_database_connections", database="payments", state="active")
            limit = read("caravan_database_connections_limit", database="payments")
            assert active
            assert limit
            assert 1 <= active < limit
            assert (read("caravan_database_oldest_transaction_seconds", database="payments") or 0) < 5
            assert read("caravan_database_pool_limit", service="payments")
            assert read("caravan_redis_memory_bytes", redis="jobs") is not None
            assert read("caravan_redis_memory_bytes", redis="cache")
            for check in ("redis", "jobs_redis"):
                assert read("caravan_check_up", service="shipping", check=check) == 1
            assert read("caravan_check_up", service="payments", check="payments") == 1
            assert read("caravan_check_up", service="shipping", check="payments") is None, "it needs no such database"
            return True

        await wait_until(are_known)


async def test_a_redis_that_is_unavailable_is_a_check_that_is_down(backends: Backends) -> None:
    async with run_services(backends, "recommendations") as shop:
        unavailable = Redis.from_url("redis://127.0.0.1:9", socket_connect_timeout=0.2)
        gauges = BackendGauges.build(shop.process.contexts.values(), {"tests": unavailable})
        await gauges.ask_backends()
        assert read("caravan_check_up", service="recommendations", check="tests_redis") == 0
        await unavailable.aclose()
