"""Faults that no process of the shop makes itself: what others do to it, to its backends, and to what watches it."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
from redis import Redis

from observability.rehearsal.load import Load
from observability.rehearsal.monitoring import Monitoring
from observability.rehearsal.post_server import PostServer
from observability.rehearsal.receiver import AlertReceiver
from observability.rehearsal.shop import APART, RehearsedShop

ORDERS_PER_SECOND = 1.0
GUESSES_PER_SECOND = 4.0
CONNECTIONS_SHARE = 0.9
"""Of all that Postgres takes, with those of the shop itself."""
MEMORY_SHARE = 0.9
ENOUGH_ORDERS = 'sum(increase(caravan_orders_total{state="created"}[1h])) > 80'
ENOUGH_ORDERS_SECONDS = 600
FILLER_BYTES, FILLER_KEY_BYTES, FILLER_SECONDS = 4 << 20, 16 << 10, 5
BROKEN_RULE = """\
groups:
  - name: broken
    rules:
      - record: job:up:pairs
        expr: up + on () up
"""


@dataclass(frozen=True, slots=True)
class Stage:
    shop: RehearsedShop
    monitoring: Monitoring
    receiver: AlertReceiver
    load: Load
    sink: PostServer
    """Stands in for the collector: takes what the shop exports, and keeps nothing."""


@dataclass(frozen=True, slots=True)
class OutsideFault:
    """`end` takes away what is left of the fault once the runbook was followed; it may be called again."""

    begin: Callable[[Stage], None]
    end: Callable[[Stage], None]


class HeldSessions:
    """Sessions of somebody who forgot them, in a thread of its own until Postgres ends them or `end` does."""

    def __init__(self, share: float, statement: str) -> None:
        self._share = share
        self._statement = statement
        self._is_ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, stage: Stage) -> None:
        url = stage.shop.find_database_url("catalog")
        self._is_ending.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._hold(url)), daemon=True)
        self._thread.start()

    def end(self, stage: Stage) -> None:
        self._is_ending.set()
        if self._thread:
            self._thread.join(60)

    async def _hold(self, url: str) -> None:
        first = await asyncpg.connect(url)
        most = await first.fetchval("SELECT current_setting('max_connections')::int")
        taken = await first.fetchval("SELECT count(*) FROM pg_stat_activity")
        held = [first, *[await asyncpg.connect(url) for _ in range(round(self._share * most) - taken)]]
        for connection in held:
            await connection.execute(self._statement)
        while not self._is_ending.is_set() and not all(connection.is_closed() for connection in held):
            await asyncio.sleep(0.5)
        for connection in held:
            connection.terminate()


def set_redis(stage: Stage, **settings: object) -> None:
    with Redis.from_url(stage.shop.servers.redis_url) as redis:
        for name, value in settings.items():
            redis.config_set(name.replace("_", "-"), str(value))


def measure_redis(stage: Stage) -> int:
    """Bytes in use."""
    with Redis.from_url(stage.shop.servers.redis_url) as redis:
        return int(redis.info("memory")["used_memory"])


def fill_redis(stage: Stage) -> None:
    set_redis(stage, maxmemory=round(measure_redis(stage) / MEMORY_SHARE))


def evict(stage: Stage) -> None:
    """What is evicted is ours and expires first, so that no job is lost to the rehearsals that follow."""
    set_redis(stage, maxmemory_policy="volatile-ttl", maxmemory=measure_redis(stage) + FILLER_BYTES)
    with Redis.from_url(stage.shop.servers.redis_url) as redis:
        for number in range(2 * FILLER_BYTES // FILLER_KEY_BYTES):
            redis.set(f"rehearsal:{number}", bytes(FILLER_KEY_BYTES), ex=FILLER_SECONDS)


def lift_memory_limit(stage: Stage) -> None:
    set_redis(stage, maxmemory_policy="noeviction", maxmemory=0)


def hang(stage: Stage) -> None:
    stage.shop.send_signal(APART, signal.SIGSTOP)


def go_on(stage: Stage) -> None:
    stage.shop.send_signal(APART, signal.SIGCONT)


def set_guesses(rate: float) -> Callable[[Stage], None]:
    return lambda stage: setattr(stage.load, "guesses_per_second", rate)


def set_orders(rate: float) -> Callable[[Stage], None]:
    return lambda stage: setattr(stage.load, "orders_per_second", rate)


def stop_ordering(stage: Stage) -> None:
    """Once there were enough orders for their absence to be noticed."""
    end = time.monotonic() + ENOUGH_ORDERS_SECONDS
    while not stage.monitoring.query(ENOUGH_ORDERS):
        if time.monotonic() > end:
            raise RuntimeError(f"there were not enough orders in {ENOUGH_ORDERS_SECONDS} s: {dict(stage.load.answers)}")
        time.sleep(1)
    stage.load.orders_per_second = 0


def refuse_tickets(stage: Stage) -> None:
    """And let there be one to tell."""
    stage.receiver.refused.add("ticket")
    stage.shop.run_command("caravan faults on cache-unavailable --minutes 30")


def take_tickets(stage: Stage) -> None:
    stage.receiver.refused.clear()
    stage.shop.run_command("caravan faults off cache-unavailable")


def break_rule(stage: Stage) -> None:
    (stage.monitoring.rules / "broken.yaml").write_text(BROKEN_RULE)
    stage.monitoring.reload()


def remove_rule(stage: Stage) -> None:
    (stage.monitoring.rules / "broken.yaml").unlink(missing_ok=True)
    stage.monitoring.reload()


def do_nothing(stage: Stage) -> None:
    pass


_SESSIONS = HeldSessions(CONNECTIONS_SHARE, "SELECT 1")
_TRANSACTION = HeldSessions(0, "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT txid_current()")
"""The roles of the services end one that is idle for a minute; this is somebody who has switched that off."""

OUTSIDE_FAULTS: dict[str, OutsideFault] = {
    "none": OutsideFault(do_nothing, do_nothing),
    "passwords are guessed": OutsideFault(set_guesses(GUESSES_PER_SECOND), set_guesses(0)),
    "nobody orders": OutsideFault(stop_ordering, set_orders(ORDERS_PER_SECOND)),
    "sessions are left open": OutsideFault(_SESSIONS.begin, _SESSIONS.end),
    "a transaction is left open": OutsideFault(_TRANSACTION.begin, _TRANSACTION.end),
    "the memory of Redis is full": OutsideFault(fill_redis, lift_memory_limit),
    "Redis may evict": OutsideFault(evict, lift_memory_limit),
    "a process hangs": OutsideFault(hang, go_on),
    "the collector is gone": OutsideFault(lambda stage: stage.sink.stop(), lambda stage: stage.sink.start()),
    "a rule is wrong": OutsideFault(break_rule, remove_rule),
    "a receiver refuses": OutsideFault(refuse_tickets, take_tickets),
}
"""By the name in rehearsals.yaml."""
