"""Does what the plan says. Each strike answers with its evidence, the proof that it happened; "" when it did not."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx2
import psutil

from caravan.clock import utc_now
from caravan.jobs import JobStore
from caravan.runtime import fault_switch
from services.registry import SERVICES
from tests.faults.invariants import rows
from tests.faults.prove.broker_strikes import BrokerStrikes
from tests.faults.prove.bus_strikes import EVIDENCE_SECONDS, BusStrikes, Strike
from tests.faults.prove.customers import Customers
from tests.faults.prove.kinds import FLAGS, KINDS, LAPTOP
from tests.faults.prove.link_strikes import build_link_strikes
from tests.faults.prove.plan import PlannedFault
from tests.faults.prove.shifted_clock import build_clock_settings, shift_clock
from tests.faults.prove.shop import ProvenShop
from tests.support.program import ROOT, build_environment
from tests.support.shop import wait_until

DEATH_SECONDS = 120.0
DEAD_AT_POINT = 137
ASKED = "SELECT coalesce(sum(asked), 0) FROM payment_attempt WHERE asked > 1"
NEEDS_ORDERS = {
    "crash point",
    "provider timeout after success",
    "rolling restart",
    "repeated deliveries",
    "reordered deliveries",
    *(kind.name for kind in KINDS if LAPTOP not in kind.sizes),
}
"""Kinds that show nothing while nobody orders: meanwhile there are some more than the plan has."""
AHEAD, BACK = 60, -600
"""Seconds by which a clock is off. What is put off by a clock that is ahead comes so much later: that must not take as
long as everything may take to come to rest.
"""


class Strikes:
    def __init__(self, shop: ProvenShop, customers: Customers) -> None:
        self.shop = shop
        self.customers = customers
        self.by_kind: dict[str, Strike] = {
            "kill service": self._kill_service,
            "freeze service": self._freeze_service,
            "rolling restart": self._restart_all,
            "crash point": self._reach_failpoint,
            "kill postgres": self._kill_server,
            "kill redis": self._kill_server,
            "freeze postgres": self._freeze_server,
            "freeze redis": self._freeze_server,
            "flush redis": self._flush_redis,
            "clock jump": self._shift_clock,
            "provider timeout after success": self._lose_answers,
            "projection rebuild": self._rebuild,
            **dict.fromkeys(FLAGS, self._switch_flag),
            **build_link_strikes(shop.proxies),
            **(BusStrikes(shop).by_kind if shop.brokers is None else BrokerStrikes(shop, shop.brokers).by_kind),
        }

    async def strike(self, fault: PlannedFault) -> str:
        ordering = asyncio.create_task(self.customers.keep_ordering()) if fault.kind in NEEDS_ORDERS else None
        try:
            evidence = await self.by_kind[fault.kind](fault)
        except Exception as error:  # whatever it is: it left no evidence, which the run ends with
            print(f"{fault.kind}, {fault.target}: {error!r}", flush=True)
            evidence = ""
        finally:
            if ordering:
                ordering.cancel()
        await self.shop.restart_dead()
        return evidence

    async def _last(self, fault: PlannedFault) -> None:
        """The length of the fault; not a wait for something."""
        await asyncio.sleep(fault.seconds)

    async def _kill_service(self, fault: PlannedFault) -> str:
        process = self.shop.running[fault.target]
        process.kill()
        await process.wait()
        await self._last(fault)
        await self.shop.start(fault.target)
        return f"exit {process.returncode}"

    async def _freeze_service(self, fault: PlannedFault) -> str:
        process = psutil.Process(self.shop.running[fault.target].pid)
        process.send_signal(signal.SIGSTOP)
        try:
            await self._last(fault)
            return f"state {process.status()}" if process.status() == psutil.STATUS_STOPPED else ""
        finally:
            process.send_signal(signal.SIGCONT)

    async def _restart_all(self, fault: PlannedFault) -> str:
        exits = []
        for service in SERVICES:
            exits.append(await self.shop.stop(service))
            await self.shop.start(service)
        return f"{len(exits)} processes, exits {sorted(set(exits), key=str)}"

    async def _reach_failpoint(self, fault: PlannedFault) -> str:
        """Customers order meanwhile."""
        service, _, point = fault.target.partition("@")
        await self.shop.stop(service)

        async def is_dead() -> bool:
            return self.shop.running[service].returncode is not None

        try:
            await self.shop.start(service, CARAVAN_FAILPOINT=point)
            await wait_until(is_dead, seconds=DEATH_SECONDS, every=0.2)
            code = self.shop.running[service].returncode
        except RuntimeError as error:  # it died while it started
            code = DEAD_AT_POINT if f"ended with {DEAD_AT_POINT}" in str(error) else None
        finally:
            await self.shop.stop(service)
            await self._last(fault)
            await self.shop.start(service)
        return f"exit {code}" if code == DEAD_AT_POINT else ""

    async def _kill_server(self, fault: PlannedFault) -> str:
        server = self.shop.find_server(fault.target)
        assert server is not None, f"{fault.target} does not run"
        # SIGKILL of a postmaster would leave its shared memory behind: SIGQUIT ends it without a checkpoint, too.
        server.send_signal(signal.SIGQUIT if fault.target == "postgres" else signal.SIGKILL)
        new = await self.shop.wait_for_server(fault.target, server.pid)
        await self.shop.wait_until_served()
        return f"process {server.pid} is gone, {new.pid} is there"

    async def _freeze_server(self, fault: PlannedFault) -> str:
        pids = self.shop.signal_server(fault.target, signal.SIGSTOP)
        try:
            await self._last(fault)
            stopped = sum(psutil.pid_exists(p) and psutil.Process(p).status() == psutil.STATUS_STOPPED for p in pids)
            return f"{stopped} processes stopped" if stopped else ""
        finally:
            self.shop.signal_server(fault.target, signal.SIGCONT)

    async def _flush_redis(self, _: PlannedFault) -> str:
        async with _open_jobs(self.shop) as store:
            before = await store.client.dbsize()
            await store.client.flushall()
        return f"{before} keys are gone" if before else ""

    async def _shift_clock(self, fault: PlannedFault) -> str:
        """The clock of a new process of this service, which had the right time until then, and has it afterwards."""
        file, seconds = self.shop.data / "clock", BACK if fault.number % 2 else AHEAD
        await self.shop.stop(fault.target)
        try:
            await self.shop.start(fault.target, **build_clock_settings(file))
            shift_clock(file, seconds)
            evidence = await self._see_clock(fault.target, seconds)
            await self._last(fault)
            shift_clock(file, 0)
            await self._last(fault)  # as long as it is right again
        finally:
            await self.shop.stop(fault.target)
            await self.shop.start(fault.target)
        return evidence

    async def _see_clock(self, service: str, seconds: int) -> str:
        async def find_shift() -> int | None:
            answer = await self._ask(service, "/livez")
            shift = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
            return round(shift) if abs(shift - seconds) < AHEAD / 10 else None

        return f"the Date of its answers is {await wait_until(find_shift, seconds=EVIDENCE_SECONDS):+d} s off"

    async def _lose_answers(self, fault: PlannedFault) -> str:
        before = int((await rows(self.shop.backends, "payments", ASKED))[0][0])
        self.customers.forced_token = "tok_timeout_charged"

        async def has_repeated() -> int:
            return int((await rows(self.shop.backends, "payments", ASKED))[0][0]) - before

        try:
            await self._last(fault)
            count = await wait_until(has_repeated, seconds=EVIDENCE_SECONDS, every=0.3)
        except AssertionError:
            return ""
        finally:
            self.customers.forced_token = ""
        return f"{count} calls repeated with their key"

    async def _switch_flag(self, fault: PlannedFault) -> str:
        name = FLAGS[fault.kind]
        flag = name if fault.target == "shop" else f"{name}:{fault.target}"
        owner = {"payment": "payments", "shop": "orders"}.get(fault.target, fault.target)
        async with _open_jobs(self.shop) as store:
            await fault_switch.switch_on(store, flag, timedelta(seconds=60), utc_now())
            try:
                evidence = await self._see_flag(owner, name)
                await self._last(fault)
            finally:
                await fault_switch.switch_off(store, [flag])
        return evidence

    async def _see_flag(self, service: str, name: str) -> str:
        line = f'caravan_fault_active{{fault="{name}"}} 1'

        async def is_on() -> bool:
            return line in (await self._ask(service, "/metrics")).text

        try:
            await wait_until(is_on, seconds=EVIDENCE_SECONDS, every=0.3)
        except AssertionError:
            return ""
        return f"{service} says it is on"

    async def _ask(self, service: str, path: str) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=5) as client:
            try:
                return await client.get(f"http://127.0.0.1:{self.shop.ports[service]}{path}")
            except httpx2.HTTPError as error:
                raise AssertionError(repr(error)) from error

    async def _rebuild(self, fault: PlannedFault) -> str:
        code, text = await run_command(self.shop, "projections", "rebuild", fault.target)
        return text.strip().splitlines()[-1] if code == 0 else ""


async def run_command(shop: ProvenShop, *arguments: str) -> tuple[int, str]:
    """`caravan ...`: its exit code and what it printed."""
    environment = build_environment(shop.data, **shop.build_settings("orders"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), DEATH_SECONDS * 2)
    return process.returncode or 0, out.decode()


@asynccontextmanager
async def _open_jobs(shop: ProvenShop) -> AsyncIterator[JobStore]:
    """Direct to Redis, beside the proxies."""
    store = JobStore(shop.backends.redis_url)
    try:
        yield store
    finally:
        await store.close()
