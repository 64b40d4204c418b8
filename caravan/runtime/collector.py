"""Sends spans and log lines to the OpenTelemetry collector that the settings name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from caravan.concurrency import end_tasks
from caravan.settings import Settings
from caravan.status.report import INSTANCE, VERSION

SEARCH_SECONDS = 15.0


@asynccontextmanager
async def export_to_collector(
    kernel_settings: Settings, process: str, every: float = SEARCH_SECONDS
) -> AsyncIterator[None]:
    """Export while this is open; to a collector that is optional from the moment when its name has an address, which is
    looked for every so many seconds.
    """
    async with AsyncExitStack() as stack:

        async def begin_export() -> None:
            from caravan.telemetry.span_export import export_spans  # the SDK is for those who export

            end_export = export_spans(kernel_settings.otlp_endpoint, process, INSTANCE, VERSION)
            stack.push_async_callback(asyncio.to_thread, end_export)

        async def begin_when_found() -> None:
            while not await is_collector_there(kernel_settings):
                await asyncio.sleep(every)
            await begin_export()

        if await is_collector_there(kernel_settings):
            await begin_export()
        elif kernel_settings.otlp_endpoint:
            stack.push_async_callback(end_tasks, [asyncio.create_task(begin_when_found(), name="find the collector")])
        yield


async def is_collector_there(kernel_settings: Settings) -> bool:
    """Whether one is named; where it is optional, whether its name has an address now."""
    url = kernel_settings.otlp_endpoint
    if url and kernel_settings.otlp_optional:
        try:
            await asyncio.get_running_loop().getaddrinfo(urlsplit(url).hostname, None)
        except OSError:
            return False
    return bool(url)
