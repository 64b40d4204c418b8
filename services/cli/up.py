"""`caravan up`: the whole shop on this machine, with a small catalogue, an admin, and the events as they happen."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
import orjson

from caravan.bus.embedded import EmbeddedBus
from caravan.runtime import Process
from services.__main__ import SERVICES
from services.cli.configuration import settings_for
from services.cli.seed import fill
from services.cli.serve import start
from services.cli.shop import Away, Refused, Shop
from services.cli.terminal import fail, print_line, print_note, print_styled
from services.identity.client import ENSURE_ADMIN, EnsureAdminRequest

TAIL_SECONDS = 0.4
LOOK_SECONDS = 10.0
TAIL_LINES = 20


def up() -> None:
    kernel = settings_for(SERVICES)
    if not kernel.model_fields_set & {"log_level", "log_format"}:
        kernel = kernel.model_copy(update={"log_level": "warning", "log_format": "text"})  # the terminal is for the events
    started = time.monotonic()

    async def prepare(process: Process) -> tuple[str, str | None]:
        return await _seed(process) if kernel.seed == "demo" else "", await ensure_admin(process)

    async def follow(process: Process, prepared: tuple[str, str | None]) -> None:
        seeded, password = prepared
        _welcome(process.url, kernel.admin_email, password, seeded, time.monotonic() - started, str(kernel.data))
        await _show_events(process)

    start(SERVICES, kernel, lambda line: print_line(line, style="dim"), prepare, follow)


async def _seed(process: Process) -> str:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=process.app), base_url=process.url, timeout=30) as http:
        try:
            return await fill(Shop(http, process.backends.secret, print_note))
        except (Refused, Away) as failure:
            fail(f"the demo catalogue could not be made: {failure}; CARAVAN_SEED=none starts without it")


async def ensure_admin(process: Process) -> str | None:
    """Make the first admin if there is none; its password when it was generated now."""
    kernel = process.kernel
    given = kernel.admin_password.get_secret_value() if kernel.admin_password else None
    calls = process.contexts["identity"].calls
    return (await calls(ENSURE_ADMIN, EnsureAdminRequest(email=kernel.admin_email, password=given))).generated


def _welcome(url: str, admin: str, password: str | None, seeded: str, seconds: float, data: str) -> None:
    print_line()
    print_styled([("Caravan is up", "bold"), (f" after {seconds:.1f} s: {url}", "")])
    print_line(f"  API        {url}/docs   {url}/openapi.json")
    print_line(f"  messages   {url}/docs/messages   {url}/asyncapi.json")
    print_line(f"  mail       {data}/mail/")
    generated = [(", password (shown once): ", ""), (password, "bold")] if password else []
    print_styled([(f"  admin      {admin}", ""), *generated])
    if seeded:
        print_line(f"  catalogue  {seeded}")
    print_line()
    print_line(f"  first request   curl -s '{url}/v1/products?limit=3'")
    print_line("  first order     caravan demo")
    print_line()
    print_line("Events as they happen (Ctrl-C stops the shop):")


async def _show_events(process: Process) -> None:
    if not isinstance(process.bus, EmbeddedBus):
        return  # brokers have consoles of their own
    position: int | None = None
    while True:
        rows = await process.bus.tail(position, TAIL_LINES)
        if rows and position is not None:
            skipped = rows[0]["position"] - position - 1
            if skipped > 0 and len(rows) == TAIL_LINES:
                print_line(f"… {skipped} more", style="dim")
            print_styled(*(_line(row["topic"], row["key"], orjson.loads(row["body"])) for row in rows))
        if rows:
            position = rows[-1]["position"]
        await asyncio.sleep(TAIL_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await process.bus.moved.wait()
        process.bus.moved.clear()


def _line(topic: str, key: str, envelope: dict[str, Any]) -> list[tuple[str, str]]:
    moment = datetime.fromisoformat(envelope["time"]).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    data = envelope["data"]
    facts = [
        f"{name}={data[name]}"
        for name in ("outcome", "status", "email", "action", "reason", "available", "tracking_number")
        if data.get(name) not in (None, "")
    ]
    return [(moment, "dim"), (f" {topic:<20} {key}  ", ""), (" ".join(facts), "dim")]
