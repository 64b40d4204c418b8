"""Does what the plan says. Each strike answers with its evidence, the proof that it happened; "" when it did not."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
import psutil

from caravan.clock import utc_now
from caravan.jobs import JobStore
from caravan.runtime import BUS, fault_switch
from services.registry import SERVICES
from tests.faults.invariants import rows
from tests.faults.prove.customers import Customers
from tests.faults.prove.kinds import FLAGS
from tests.faults.prove.plan import PlannedFault
from tests.faults.prove.shop import ProvenShop
from tests.support.program import ROOT, build_environment
from tests.support.shop import wait_until

POISON = "poison-"
"""Begins the keys of what was planted."""
REPEATED = 150
EVIDENCE_SECONDS = 20.0
DEATH_SECONDS = 60.0
DEAD_AT_POINT = 137
ASKED = "SELECT coalesce(sum(asked), 0) FROM payment_attempt WHERE asked > 1"
MORE_ORDERS = 25
"""So many more there may be for a strike that waits for orders."""
NEEDS_ORDERS = {"crash point", "provider timeout after success", "rolling restart"}
Strike = Callable[[PlannedFault], Awaitable[str]]


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
            "cut connections": self._cut,
            "cut redis connections": self._cut,
            "slow link": self._disturb_link,
            "sliced link": self._disturb_link,
            "one-way link": self._disturb_link,
            "partition": self._disturb_link,
            "repeated deliveries": self._repeat,
            "reordered deliveries": self._repeat,
            "poison": self._poison,
            "provider timeout after success": self._lose_answers,
            "projection rebuild": self._rebuild,
            **dict.fromkeys(FLAGS, self._switch_flag),
        }

    async def strike(self, fault: PlannedFault) -> str:
        self.customers.more = MORE_ORDERS if fault.kind in NEEDS_ORDERS else 0
        try:
            evidence = await self.by_kind[fault.kind](fault)
        except AssertionError as error:  # a wait for its evidence has ended
            print(f"{fault.kind}, {fault.target}: {error}", flush=True)
            evidence = ""
        finally:
            self.customers.more = 0
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
        service, _, point = fault.target.partition("@")
        await self.shop.stop(service)
        try:
            await self.shop.start(service, CARAVAN_FAILPOINT=point)
            await asyncio.wait_for(self.shop.running[service].wait(), DEATH_SECONDS)
            is_dead = self.shop.running[service].returncode == DEAD_AT_POINT
        except TimeoutError:
            is_dead = False
            await self.shop.stop(service)
        except RuntimeError as error:  # it died while it started
            is_dead = f"ended with {DEAD_AT_POINT}" in str(error)
        await self._last(fault)
        await self.shop.start(service)
        return f"exit {DEAD_AT_POINT}" if is_dead else ""

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

    async def _cut(self, fault: PlannedFault) -> str:
        count = 0
        for _ in range(3):
            count += self.shop.proxies[fault.target].cut()
            await asyncio.sleep(fault.seconds / 3)
        return f"{count} connections reset" if count else ""

    async def _disturb_link(self, fault: PlannedFault) -> str:
        proxy = self.shop.proxies[fault.target]
        mode = {"partition": "refused"}.get(fault.kind, fault.kind.removesuffix(" link"))
        before = proxy.seen[mode]
        proxy.mode = mode
        if mode == "refused":
            proxy.cut()

        async def has_seen() -> bool:
            return proxy.seen[mode] > before

        try:
            await self._last(fault)
            await wait_until(has_seen, seconds=EVIDENCE_SECONDS, every=0.1)  # somebody used the link meanwhile
        finally:
            proxy.mode = "open"
            if mode == "one-way":
                proxy.cut()  # what has lost a part of its answers is of no more use
        unit = {"one-way": "bytes lost", "refused": "connections refused"}.get(mode, "packets")
        return f"{proxy.seen[mode] - before} {unit}"

    async def _repeat(self, fault: PlannedFault) -> str:
        order = "position" if fault.kind == "repeated deliveries" else f"md5(message_id::text || '{fault.number}')"
        refused = await self._count_refused()
        repeated = await rows(
            self.shop.backends,
            BUS,
            f"""INSERT INTO topic_log (topic, key, message_id, body)
                SELECT topic, key, message_id, body FROM (
                    SELECT * FROM topic_log WHERE key NOT LIKE '{POISON}%' ORDER BY position DESC LIMIT {REPEATED}
                ) AS newest ORDER BY {order} RETURNING position""",
        )

        async def has_more() -> int:
            return await self._count_refused() - refused

        count = await wait_until(has_more, seconds=EVIDENCE_SECONDS, every=0.3)
        return f"{len(repeated)} messages again, {count} deliveries refused so far"

    async def _count_refused(self) -> int:
        found = await asyncio.gather(
            *(
                rows(self.shop.backends, service, "SELECT coalesce(sum(refused), 0) FROM inbox")
                for service in ("orders", "processing", "inventory", "payments")
            )
        )
        return sum(int(each[0][0]) for each in found)

    async def _poison(self, fault: PlannedFault) -> str:
        key = f"{POISON}{fault.number}"
        await rows(
            self.shop.backends,
            BUS,
            "INSERT INTO topic_log (topic, key, message_id, body)"
            " SELECT topic, $1, gen_random_uuid(), '{broken' FROM (SELECT DISTINCT topic FROM cursor) AS t",
            key,
        )

        async def has_died() -> int:
            query = "SELECT count(*) FROM dead_letter WHERE key = $1"
            return int((await rows(self.shop.backends, BUS, query, key))[0][0])

        return f"{await wait_until(has_died, seconds=EVIDENCE_SECONDS, every=0.3)} dead letters so far"

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
            async with httpx2.AsyncClient(timeout=5) as client:
                try:
                    answer = await client.get(f"http://127.0.0.1:{self.shop.ports[service]}/metrics")
                except httpx2.HTTPError as error:
                    raise AssertionError(repr(error)) from error
            return line in answer.text

        try:
            await wait_until(is_on, seconds=EVIDENCE_SECONDS, every=0.3)
        except AssertionError:
            return ""
        return f"{service} says it is on"

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
