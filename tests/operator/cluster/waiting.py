"""Waits until a broker holds what a test expects."""

from collections.abc import Awaitable, Callable

from tests.support.shop import wait_until


async def wait_for_value(check: Callable[[], Awaitable[object]], value: object) -> None:
    async def equal() -> bool:
        found = await check()
        assert found == value, f"{found} instead of {value}"
        return True

    await wait_until(equal, seconds=20, every=0.2)
