"""`caravan up`: the whole shop on this machine, with a small catalogue, an admin, and the events as they happen."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import httpx2
import orjson
from rich.console import Console

from caravan.bus.embedded import EmbeddedBus
from caravan.runtime import Process
from services.__main__ import SERVICES
from services.cli.progress import say
from services.cli.seed import fill
from services.cli.serve import kernel_settings, start
from services.cli.shop import Shop
from services.identity.client import ENSURE_ADMIN, EnsureAdminRequest

TAIL_SECONDS = 0.4
TAIL_LINES = 20

console = Console(highlight=False, soft_wrap=True)


def up() -> None:
    """Start the whole shop: Postgres and Redis from the data folder, all services in one process, on CARAVAN_PORT (8080).

    Stop it with Ctrl-C; what it stored is there at the next start. `make clean` deletes the data folder.
    """
    kernel = kernel_settings()
    if not kernel.model_fields_set & {"log_level", "log_format"}:
        kernel = kernel.model_copy(update={"log_level": "warning", "log_format": "text"})  # the terminal is for the events
    started = time.monotonic()

    async def follow(process: Process) -> None:
        password = await ensure_admin(process, quiet=True)
        seeded = await _seed(process) if kernel.seed == "demo" else ""
        console.print(_welcome(process.url, kernel.admin_email, password, seeded, time.monotonic() - started, str(kernel.data)))
        await _show_events(process)

    start(SERVICES, kernel, lambda line: console.print(f"[dim]{line}[/dim]"), follow, join=False)


async def _seed(process: Process) -> str:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=process.app), base_url=process.url, timeout=30) as http:
        return await fill(Shop(http, process.backends.secret, say))


async def ensure_admin(process: Process, *, quiet: bool = False) -> str | None:
    """Make the first admin if there is none; its password when it was generated now."""
    kernel = process.kernel
    given = kernel.admin_password.get_secret_value() if kernel.admin_password else None
    calls = process.contexts["identity"].calls
    answer = await calls(ENSURE_ADMIN, EnsureAdminRequest(email=kernel.admin_email, password=given))
    if answer.generated and not quiet:
        print(f"admin: {kernel.admin_email}, password (shown once): {answer.generated}", flush=True)
    return answer.generated


def _welcome(url: str, admin: str, password: str | None, seeded: str, seconds: float, data: str) -> str:
    who = f"{admin}, password (shown once): [bold]{password}[/bold]" if password else admin
    lines = [
        "",
        f"[bold]Caravan is up[/bold] after {seconds:.1f} s: {url}",
        f"  API        {url}/docs   {url}/openapi.json",
        f"  messages   {url}/docs/messages   {url}/asyncapi.json",
        f"  mail       {data}/mail/",
        f"  admin      {who}",
        *([f"  catalogue  {seeded}"] if seeded else []),
        "",
        f"  first request   curl -s '{url}/v1/products?limit=3'",
        "  first order     caravan demo",
        "",
        "Events as they happen (Ctrl-C stops the shop):",
    ]
    return "\n".join(lines)


async def _show_events(process: Process) -> None:
    if not isinstance(process.bus, EmbeddedBus):
        return  # brokers have consoles of their own
    position: int | None = None
    while True:
        rows = await process.bus.tail(position, TAIL_LINES)
        if rows and position is not None:
            skipped = rows[0]["position"] - position - 1
            if skipped > 0 and len(rows) == TAIL_LINES:
                console.print(f"[dim]… {skipped} more[/dim]")
            for row in rows:
                console.print(_line(row["topic"], row["key"], orjson.loads(row["body"])))
        if rows:
            position = rows[-1]["position"]
        await asyncio.sleep(TAIL_SECONDS)


def _line(topic: str, key: str, envelope: dict[str, Any]) -> str:
    moment = datetime.fromisoformat(envelope["time"]).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    data = envelope["data"]
    facts = [
        f"{name}={data[name]}"
        for name in ("outcome", "status", "email", "action", "reason", "available", "tracking_number")
        if data.get(name) not in (None, "")
    ]
    return f"[dim]{moment}[/dim] {topic:<20} {key}  [dim]{' '.join(facts)}[/dim]"
