"""`caravan up`: the whole shop on this machine, with a small catalogue, an admin, and the events as they happen."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
import orjson
from opentelemetry.trace import SpanKind

from caravan import telemetry
from caravan.bus.embedded import EmbeddedBus
from caravan.runtime import Process
from cli.api_client import ApiClient, ApiError, ApiUnavailable
from cli.configuration import load_checked_settings
from cli.seed import fill_catalogue
from cli.serve import start
from cli.terminal import exit_with_error, print_line, print_note, print_styled
from services.identity.client import ENSURE_ADMIN, EnsureAdminRequest
from services.registry import SERVICES

MIN_TAIL_PAUSE_SECONDS = 0.4
MAX_TAIL_WAIT_SECONDS = 10.0
TAIL_LINES = 20


def start_shop() -> None:
    kernel_settings = load_checked_settings(SERVICES)
    if not kernel_settings.model_fields_set & {"log_level", "log_format"}:
        kernel_settings = kernel_settings.model_copy(
            update={"log_level": "warning", "log_format": "text"}
        )  # the terminal is for the events
    started_at = time.monotonic()

    async def prepare_shop(process: Process) -> tuple[str, str | None]:
        return await _seed_shop(process) if kernel_settings.seed == "demo" else "", await ensure_admin(process)

    async def follow_events(process: Process, prepared: tuple[str, str | None]) -> None:
        catalogue_text, password = prepared
        _print_welcome(
            process.url,
            kernel_settings.admin_email,
            password,
            catalogue_text,
            time.monotonic() - started_at,
            str(kernel_settings.data),
        )
        await _print_events(process)

    start(SERVICES, kernel_settings, lambda line: print_line(line, style="dim"), prepare_shop, follow_events)


async def _seed_shop(process: Process) -> str:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=process.app), base_url=process.url, timeout=30
    ) as http:
        try:
            return await fill_catalogue(ApiClient(http, process.backends.secret, print_note))
        except (ApiError, ApiUnavailable) as failure:
            exit_with_error(f"the demo catalogue could not be made: {failure}; CARAVAN_SEED=none starts without it")


async def ensure_admin(process: Process) -> str | None:
    """Make the first admin if there is none; its password when it was generated now."""
    kernel_settings = process.kernel_settings
    password = kernel_settings.admin_password.get_secret_value() if kernel_settings.admin_password else None
    calls = process.contexts["identity"].call
    request = EnsureAdminRequest(email=kernel_settings.admin_email, password=password)
    with telemetry.start_span("ensure admin", SpanKind.INTERNAL, is_quiet=True):
        return (await calls(ENSURE_ADMIN, request)).generated


def _print_welcome(url: str, admin: str, password: str | None, catalogue_text: str, seconds: float, data: str) -> None:
    print_line()
    print_styled([("Caravan is up", "bold"), (f" after {seconds:.1f} s: {url}", "")])
    print_line(f"  console    {url}/console")
    print_line(f"  API        {url}/docs   {url}/openapi.json")
    print_line(f"  messages   {url}/docs/messages   {url}/asyncapi.json")
    print_line(f"  mail       {data}/mail/")
    generated = [(", password (shown once): ", ""), (password, "bold")] if password else []
    print_styled([(f"  admin      {admin}", ""), *generated])
    if catalogue_text:
        print_line(f"  catalogue  {catalogue_text}")
    print_line()
    print_line(f"  first request   curl -s '{url}/v1/products?limit=3'")
    print_line("  first order     caravan demo")
    print_line()
    print_line("Events as they happen (Ctrl-C stops the shop):")


async def _print_events(process: Process) -> None:
    if not isinstance(process.bus, EmbeddedBus):
        return  # brokers have consoles of their own
    last_position = await process.bus.get_end_position()
    while True:
        messages = await process.bus.list_newest_messages(last_position, TAIL_LINES)
        if messages:
            skipped = messages[0].position - last_position - 1
            if skipped > 0 and len(messages) == TAIL_LINES:
                print_line(f"… {skipped} more", style="dim")
            print_styled(*(_format_event(each.topic, each.key, orjson.loads(each.body)) for each in messages))
            last_position = messages[-1].position
        await asyncio.sleep(MIN_TAIL_PAUSE_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_TAIL_WAIT_SECONDS):
                await process.bus.messages_arrived.wait()
        process.bus.messages_arrived.clear()


def _format_event(topic: str, key: str, envelope: dict[str, Any]) -> list[tuple[str, str]]:
    time_text = datetime.fromisoformat(envelope["time"]).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    data = envelope["data"]
    data_fields = [
        f"{name}={data[name]}"
        for name in ("outcome", "status", "email", "action", "reason", "available", "tracking_number")
        if data.get(name) not in (None, "")
    ]
    return [(time_text, "dim"), (f" {topic:<20} {key}  ", ""), (" ".join(data_fields), "dim")]
