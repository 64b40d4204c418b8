"""How tests of readers and buses on fake brokers wait for a condition, which they see without asking a server."""

from collections.abc import Callable

from tests.support.shop import wait_until


async def wait_for(condition: Callable[[], bool]) -> None:
    async def check_condition() -> bool:
        return condition()

    await wait_until(check_condition, seconds=5, every=0.001)
