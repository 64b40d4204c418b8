"""Every service in a process of its own on real servers, any of which may die; and customers who order all the while
and ask again until they are answered.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import httpx2

from caravan.clock import new_id
from caravan.runtime import Backends
from services.registry import SERVICES
from tests.faults.servers import Servers
from tests.support.backends.ready import free_ports
from tests.support.forks import Process
from tests.support.program import ROOT, Program, build_environment, launch_caravan
from tests.support.shop import wait_until

T = TypeVar("T")
PACE = {
    "SHIPPING_PICKUP_SECONDS": "1.0",
    "SHIPPING_DELIVERY_SECONDS": "0.2",
    "PAYMENTS_RETRY_SECONDS": "[0.2,0.3,0.5,1.0]",
    # A step that nobody answers is taken again soon: a test has no time for the half minute of a quiet shop.
    "PROCESSING_STEP_TIMEOUT_SECONDS": "5",
}
SECRET = "a secret of the fault tests, nowhere else used"
ASK_SECONDS = 150
START_SECONDS = 300
TOKENS = ("tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_flaky", "tok_timeout_charged")


class NotYet(httpx2.HTTPError):
    """An answer that means: ask again."""


@dataclass
class Fleet:
    data: Path
    servers: Servers
    ports: dict[str, int]
    program: Program = field(init=False)
    running: dict[str, Process] = field(default_factory=dict)

    @property
    def backends(self) -> Backends:
        return Backends(self.servers.postgres.url, self.servers.redis.url, SECRET)

    async def start(self, name: str) -> None:
        settings = {
            **PACE,
            **self.servers.settings(),
            "CARAVAN_SECRET": SECRET,
            "CARAVAN_MIGRATE": "false",
            "CARAVAN_PORT": str(self.ports[name]),
        }
        self.running[name], _ = await launch_caravan(
            ["run", *name.split()], settings, self.data, name, seconds=START_SECONDS
        )

    async def migrate(self) -> None:
        (self.data / "secret").write_text(SECRET)
        settings = build_environment(self.data, **self.servers.settings(), CARAVAN_SECRET=SECRET)
        done = await asyncio.create_subprocess_exec(sys.executable, "-m", "cli", "migrate", cwd=ROOT, env=settings)
        assert await asyncio.wait_for(done.wait(), START_SECONDS) == 0

    async def start_all(self) -> None:
        for pair in zip_longest(SERVICES[::2], SERVICES[1::2]):
            await asyncio.gather(*(self.start(name) for name in pair if name))
        self.program = Program(f"http://127.0.0.1:{self.ports['gateway']}", self.data, list(self.running.values()))

    async def kill(self, name: str) -> None:
        self.running[name].kill()
        await self.running[name].wait()

    async def stop_all(self) -> None:
        """As an operator does it: they finish what they have in hand."""
        self.program.processes = list(self.running.values())
        await self.program.stop()

    async def sure(self, action: Callable[[], Awaitable[T]], seconds: float = ASK_SECONDS) -> T:
        """Do it until it is done, whatever is away meanwhile."""

        async def attempt() -> tuple[T]:
            try:
                return (await action(),)
            except httpx2.HTTPError as error:
                raise AssertionError(f"{type(error).__name__}: {error}") from error

        return (await wait_until(attempt, seconds=seconds, every=0.2))[0]


@asynccontextmanager
async def fleet(data: Path, servers: Servers) -> AsyncIterator[Fleet]:
    data.mkdir(parents=True, exist_ok=True)
    made = Fleet(data, servers, dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True)))
    try:
        await made.migrate()
        await made.start_all()
        yield made
    finally:
        if hasattr(made, "program"):
            await made.stop_all()
        for process in made.running.values():
            if process.returncode is None:
                process.kill()


@dataclass
class Customers:
    """They order, and now and then cancel, until they are told to go home. `accepted`: the orders that were answered
    with 202.
    """

    fleet: Fleet
    chance: random.Random
    accepted: set[str] = field(default_factory=set)
    contradictions: list[str] = field(default_factory=list)
    _home: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def come(self, count: int) -> None:
        program = self.fleet.program
        sku = await self.fleet.sure(lambda: program.create_product(stock=100_000))
        for _ in range(count):
            who = await self.fleet.sure(program.register_customer)
            self._tasks.append(asyncio.create_task(self._order_until_home(who, sku)))

    async def go_home(self) -> None:
        """Each gets the answer to what it asked last, then no more is ordered."""
        self._home.set()
        await asyncio.gather(*self._tasks)

    async def leave(self) -> None:
        """At once, whatever they were doing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ordered(self, more: int, seconds: float = ASK_SECONDS) -> None:
        target = len(self.accepted) + more

        async def enough() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return len(self.accepted) >= target

        await wait_until(enough, seconds=seconds, every=0.1)

    async def _order_until_home(self, who: dict[str, str], sku: str) -> None:
        while not self._home.is_set():
            token, key = self.chance.choice(TOKENS), str(new_id())

            async def place(token: str = token, key: str = key) -> str:
                answer = await self.fleet.program.place_order(who, sku, token=token, key=key)
                if answer.status_code != 202:
                    raise NotYet(answer.text)
                return str(answer.json()["id"])

            order_id = await self.fleet.sure(place)
            if await self.fleet.sure(place) != order_id:
                self.contradictions.append(f"the key of order {order_id} was answered with another order")
            self.accepted.add(order_id)
            if self.chance.random() < 0.2:
                await self.fleet.sure(lambda order_id=order_id: self._cancel(who, order_id))  # type: ignore[misc]

    async def _cancel(self, who: dict[str, str], order_id: str) -> None:
        answer = await self.fleet.program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
        if answer.status_code not in (202, 409):
            raise NotYet(answer.text)
