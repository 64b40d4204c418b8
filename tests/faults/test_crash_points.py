"""The program is killed at each named crash point while orders run; started again, every order comes to rest and every
invariant holds.
"""

import asyncio
import re
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest

from caravan.clock import new_id
from tests.faults.invariants import at_rest, backends_of, violations
from tests.support.program import ROOT, Program, launch_caravan
from tests.support.shop import wait_until

T = TypeVar("T")
POINTS = sorted(
    {
        name
        for folder in ("caravan", "services", "cli")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'failpoint\.hit\("([\w.]+)"\)', path.read_text())
    }
    - {"relay.after_send"}
    # A repair is no part of an order: tests/services/reconciliation/test_killed_repair.py.
    - {"reconciliation.repair_before_commit", "reconciliation.repair_after_commit"}
)
KERNEL = {"relay", "inbox", "handler"}
"""Passed for every message: the kill comes while orders are under way, not at the first message of the start."""
ORDERS = (
    ("tok_ok", ""),
    ("tok_ok", "once paid"),
    ("tok_declined", ""),
    ("tok_flaky", ""),
    ("tok_timeout_charged", ""),
    ("tok_ok", "at once"),
    ("tok_ok", "once paid"),
    ("tok_ok", ""),
)
PACE = {
    "SHIPPING_PICKUP_SECONDS": "1.0",
    "SHIPPING_DELIVERY_SECONDS": "0.2",
    "PAYMENTS_RETRY_SECONDS": "[0.2,0.3,0.5,1.0]",
}


REST_SECONDS = 120
"""I2: everything is at rest so long after the program is up again."""


class Restarting:
    """A program that is started again, unarmed, when it has died; what was under way is asked again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.deaths = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])  # kept: tokens name the address that issued them
        self.program: Program | None = None

    async def start(self, **settings: str) -> None:
        process, url = await launch_caravan(["up"], {**PACE, "CARAVAN_PORT": self.port, **settings}, self.data, "up")
        self.program = Program(url, self.data, [process])

    async def sure(self, action: Callable[[Program], Awaitable[T]]) -> T:
        """Do it until it is done, however often the program dies meanwhile."""

        async def attempt() -> tuple[T] | None:
            if self.program is None or self.program.processes[0].returncode is not None:
                await self.revive()
            assert self.program is not None
            try:
                return (await action(self.program),)
            except (httpx2.TransportError, httpx2.HTTPError):
                await asyncio.sleep(0.05)
                return None

        return (await wait_until(attempt, seconds=60))[0]

    async def revive(self) -> None:
        if self.program is not None:
            self.deaths += self.program.processes[0].returncode == 137
            await self.program.client.aclose()
        await self.start()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_a_crash_point_loses_and_doubles_nothing(point: str) -> None:
    data = Path(tempfile.mkdtemp(prefix="caravan-fault-"))
    shop = Restarting(data)
    try:
        try:
            await shop.start(CARAVAN_FAILPOINT=f"{point}:{20 if point.partition('.')[0] in KERNEL else 1}")
        except RuntimeError:
            shop.deaths += 1  # it died while it started
            await shop.start()
        accepted = await _work(shop)
        assert shop.deaths >= 1 or await _die_later(shop), f"{point} was never passed"
        await wait_until(lambda: _rests(data), seconds=REST_SECONDS, every=0.3)
        assert await violations(backends_of(data), accepted) == []
    finally:
        if shop.program is not None:
            await shop.program.stop()
        await asyncio.to_thread(shutil.rmtree, data, True)


async def _work(shop: Restarting) -> set[str]:
    sku = await shop.sure(lambda program: program.create_product(stock=100))
    who = await shop.sure(lambda program: program.register_customer())
    accepted: set[str] = set()

    async def order(token: str, cancel: str) -> None:
        key = str(new_id())

        async def place(program: Program) -> str:
            answer = await program.place_order(who, sku, token=token, key=key)
            if answer.status_code != 202:
                raise httpx2.HTTPError(answer.text)
            return str(answer.json()["id"])

        async def undo(program: Program) -> None:
            answer = await program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
            if answer.status_code not in (202, 409):
                raise httpx2.HTTPError(answer.text)

        async def paid(program: Program) -> None:
            if (await program.get_order(who, order_id))["status"] in ("created", "reserved"):
                raise httpx2.HTTPError("not yet")

        order_id = await shop.sure(place)
        accepted.add(order_id)
        if cancel == "once paid":
            await shop.sure(paid)
        if cancel:
            await shop.sure(undo)

    for token, cancel in ORDERS:
        await order(token, cancel)
    return accepted


async def _die_later(shop: Restarting) -> bool:
    """Some points are passed only after the last request: wait for the program to die, then start it again."""
    assert shop.program is not None
    try:
        await asyncio.wait_for(shop.program.processes[0].wait(), 20)
    except TimeoutError:
        return False
    await shop.revive()
    return shop.deaths >= 1


async def _rests(data: Path) -> bool:
    left = await at_rest(backends_of(data))
    assert left == "", left
    return True
