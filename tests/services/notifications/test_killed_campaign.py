"""A campaign of 10,000 mails through a real mail server, while the shop is killed twice: everybody gets one, at the set
rate, and critical mails overtake them. It prints its figures.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from aiosmtpd.controller import Controller

from tests.faults.invariants import backends_of
from tests.services.notifications.campaigns import BODY
from tests.services.notifications.test_smtp import free_port
from tests.support.program import Program, launch_caravan
from tests.support.shop import wait_until

RECIPIENTS, PER_SECOND = 10_000, 50
KILLED_AFTER = (2_500, 5_000)
"""Mails. What the dead process had in hand is due again a minute later."""
IN_FLIGHT = 200
"""A batch: so many mails at most are handed to the mail server again, under the same Message-ID."""
CRITICAL_SECONDS = 2.0


@dataclass
class Sink:
    """A mail server that notes who got which mail when."""

    campaign: list[tuple[str, str, float]] = field(default_factory=list)
    critical: int = 0

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        head = envelope.content.partition(b"\r\n\r\n")[0].decode()
        if "Subject: Your password was changed" in head:
            self.critical += 1
        elif "List-Unsubscribe-Post" in head:
            message_id = re.findall(r"Message-ID: <(\S+)>", head)[0]
            self.campaign.append((envelope.rcpt_tos[0], message_id, time.monotonic()))
        return "250 OK"


@dataclass
class KilledShop:
    data: Path
    settings: dict[str, str]
    program: Program | None = None
    starts: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)

    async def start(self) -> Program:
        process, url = await launch_caravan(["up"], self.settings, self.data, "up")
        self.starts.append(time.monotonic())
        self.program = Program(url, self.data, [process])
        return self.program

    async def kill(self) -> None:
        assert self.program is not None
        self.kills.append(time.monotonic())
        self.program.kill()
        await self.program.processes[0].wait()
        await self.program.client.aclose()


async def create_recipients(data: Path) -> None:
    connection = await asyncpg.connect(backends_of(data).get_database_url("notifications"))
    try:
        await connection.execute(
            "INSERT INTO recipient (user_id, email, name, active, version, registered_at)"
            " SELECT gen_random_uuid(), 'reader' || n || '@example.com', 'Reader', true, 0, now() - interval '1 day'"
            " FROM generate_series(1, $1) AS n",
            RECIPIENTS,
        )
    finally:
        await connection.close()


async def change_passwords(shop: KilledShop, sink: Sink, headers: dict[str, str], delays: list[float]) -> None:
    """Change a password again and again, and measure how long its mail takes; a change that a kill cut off is left
    out.
    """
    passwords = ["a long enough password", "another password of that length"]
    while True:
        assert shop.program is not None
        expected, kills = sink.critical + 1, len(shop.kills)
        body = {"current_password": passwords[0], "new_password": passwords[1]}
        with suppress(httpx2.TransportError, RuntimeError):
            answer = await shop.program.client.post("/v1/users/me/password", json=body, headers=headers)
            if answer.status_code == 204:
                passwords.reverse()
                published = time.monotonic()
                await wait_until(lambda expected=expected: has_come(sink, expected), seconds=60)  # type: ignore[misc]
                if len(shop.kills) == kills:
                    delays.append(time.monotonic() - published)
            elif answer.status_code == 422:  # a kill cut the answer off, not the change
                passwords.reverse()
        await asyncio.sleep(0.5)


async def has_come(sink: Sink, expected: int) -> bool:
    return sink.critical >= expected


def measure_rates(sink: Sink, shop: KilledShop, main_end: float) -> list[float]:
    """Mails a second in each life of the process, without its first second, in which a pause is caught up."""
    rates = []
    for start, end in zip(shop.starts, [*shop.kills, main_end], strict=True):
        times = [moment for _, _, moment in sink.campaign if start < moment <= end]
        steady = [moment for moment in times if moment >= times[0] + 1]
        rates.append((len(steady) - 1) / (steady[-1] - steady[0]))
    return rates


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_thousand_get_one_mail_at_the_set_rate_whatever_is_killed(tmp_path: Path) -> None:
    sink = Sink()
    server = Controller(sink, "127.0.0.1", free_port())
    server.start()
    port = str(free_port())  # kept: tokens name the address that issued them
    shop = KilledShop(
        tmp_path,
        {
            "CARAVAN_PORT": port,
            "NOTIFICATIONS_SMTP_URL": f"smtp://127.0.0.1:{server.port}",
            "NOTIFICATIONS_CAMPAIGN_MAILS_PER_SECOND": str(PER_SECOND),
            "NOTIFICATIONS_UNVERIFIED_MAILS_PER_DAY": "100000",
        },
    )
    delays: list[float] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        program = await shop.start()
        await create_recipients(tmp_path)
        customer = await program.register_customer()
        began = time.monotonic()
        answer = await program.client.post("/v1/campaigns", json=BODY, headers=await program.authorize_operator())
        assert answer.status_code == 201, answer.text
        tasks.append(asyncio.create_task(change_passwords(shop, sink, customer, delays)))
        for number in KILLED_AFTER:
            await wait_until(lambda number=number: have_got_it(sink, number), seconds=240)  # type: ignore[misc]
            await shop.kill()
            await shop.start()
        await wait_until(lambda: have_got_it(sink, RECIPIENTS - 2 * IN_FLIGHT), seconds=240)
        main_end = time.monotonic()
        await wait_until(lambda: have_got_it(sink, RECIPIENTS), seconds=120)
        took = time.monotonic() - began
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if shop.program is not None:
            await shop.program.stop()
        server.stop()
    report(sink, shop, delays, took)
    ids = {message_id for _, message_id, _ in sink.campaign}
    readers = Counter(reader for reader, _ in {(reader, message_id) for reader, message_id, _ in sink.campaign})
    assert len(readers) == len(ids) == RECIPIENTS and set(readers.values()) == {1}, "each has one mail"
    assert len(sink.campaign) - RECIPIENTS <= len(KILLED_AFTER) * IN_FLIGHT
    assert measure_rates(sink, shop, main_end) == pytest.approx([PER_SECOND] * 3, rel=0.05)
    assert len(delays) >= 20 and find_p95(delays) <= CRITICAL_SECONDS


async def have_got_it(sink: Sink, number: int) -> bool:
    return len({message_id for _, message_id, _ in sink.campaign}) >= number


def find_p95(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.95)]


def report(sink: Sink, shop: KilledShop, delays: list[float], took: float) -> None:
    format_seconds: Callable[[float], str] = "{:.2f} s".format
    rates = measure_rates(sink, shop, sink.campaign[-IN_FLIGHT][2])
    print(
        f"\n{RECIPIENTS} mails in {took:.0f} s with {len(shop.kills)} kills,"
        f" {len(sink.campaign) - RECIPIENTS} handed over twice under the same Message-ID;"
        f" mails a second in each life: {', '.join(f'{rate:.1f}' for rate in rates)} (set: {PER_SECOND});"
        f" critical mails meanwhile: {len(delays)}, median {format_seconds(sorted(delays)[len(delays) // 2])},"
        f" p95 {format_seconds(find_p95(delays))}"
    )
