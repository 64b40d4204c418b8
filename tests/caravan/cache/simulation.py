"""Three processes with the cache as it is, on the run's Valkey with the script as it is, in simulated time.

A seed makes a schedule: changes and their invalidations, reads, slow computations, restarts of Redis with or without
its data or with those of a moment before, flushes, clocks set forward and back, lost notifications. Seconds of it take
milliseconds: the loop's clock jumps to the next timer, and the script reads the simulated clock of the server.
"""

import asyncio
import random
import selectors
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
import orjson
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from caravan.cache import Cache, Fill, SharedCache, TagKind
from caravan.cache.server import SCRIPT

PRODUCT = TagKind("product", "sku", (), "the product changed")
PAGES = Cache("shop.pages", "a page", "name", (PRODUCT,), "public", seconds=4.0, lease_seconds=1.0)
SKUS_OF_PAGE = {"first": ("mug", "pot"), "second": ("pot",)}
SPAN = 6.0
"""Seconds in which everything of a schedule begins."""
MAX_STALE_SECONDS = 1.0

_SIMULATED_SERVER = """
local server, published = redis, {}
local clock = tonumber(table.remove(ARGV))
for _, key in ipairs(server.call('ZRANGEBYSCORE', 'simulated:expiry', '-inf', clock / 1000)) do
  server.call('DEL', key)
  server.call('ZREM', 'simulated:expiry', key)
end
local function expire(key, milliseconds)
  server.call('ZADD', 'simulated:expiry', clock / 1000 + milliseconds, key)
end
local redis = {error_reply = server.error_reply}
function redis.call(command, ...)
  local words = {...}
  if command == 'TIME' then return {math.floor(clock / 1000000), clock % 1000000} end
  if command == 'PUBLISH' then published[#published + 1] = words[2] return 0 end
  if command == 'PEXPIRE' then expire(words[1], words[2]) return 1 end
  if command == 'PTTL' then return (server.call('ZSCORE', 'simulated:expiry', words[1]) or 0) - clock / 1000 end
  if command == 'DEL' then server.call('ZREM', 'simulated:expiry', words[1]) end
  if command == 'SET' then
    local is_new = words[3] == 'NX'
    local reply = is_new and server.call('SET', words[1], words[2], 'NX') or server.call('SET', words[1], words[2])
    if is_new and server.call('GET', words[1]) ~= words[2] then return false end
    if words[3] then expire(words[1], is_new and words[5] or words[4]) end
    return reply
  end
  return server.call(command, ...)
end
local function run_script()
SCRIPT
end
return {run_script(), published}
"""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock is where the next timer is: nobody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> Any:
                assert timeout is not None, "everybody waits for nothing"
                loop.now += timeout
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


class Connection:
    """A plain one that blocks: a command takes microseconds, and no time of the simulation."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.execute("AUTH", parts.username or "default", parts.password or "")

    def execute(self, *words: str | bytes) -> Any:
        self._socket.sendall(hiredis.pack_command(cast(Any, words)))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._socket.close()


class SimulatedServer:
    """The server, as `SharedCache` asks it and as the schedule breaks it."""

    def __init__(self, connection: Connection, draw: random.Random, sha: bytes) -> None:
        self._connection = connection
        self._draw = draw
        self._sha = sha
        self._is_script_loaded = False
        self._snapshot: dict[bytes, bytes] = {}
        self.is_down = False
        self.clock_offset = 0.0
        self.listeners: list[Callable[[bytes], None]] = []
        connection.execute("FLUSHDB")

    async def evalsha(self, _: str, key_count: int, *words: Any) -> Any:
        return await self._run(key_count, words, is_load=False)

    async def eval(self, _: str, key_count: int, *words: Any) -> Any:
        return await self._run(key_count, words, is_load=True)

    async def _run(self, key_count: int, words: tuple[Any, ...], *, is_load: bool) -> Any:
        await asyncio.sleep(self._draw.expovariate(500))
        if self.is_down:
            raise RedisConnectionError("refused")
        if not is_load and not self._is_script_loaded:
            raise NoScriptError("no such script")
        self._is_script_loaded = True
        clock = round((1e6 + asyncio.get_running_loop().time() + self.clock_offset) * 1_000_000)
        reply, published = self._connection.execute("EVALSHA", self._sha, str(key_count), *words, str(clock))
        for message in published:
            for listener in self.listeners:
                listener(message)
        await asyncio.sleep(self._draw.expovariate(500))
        if self.is_down or self._draw.random() < 0.01:
            raise RedisConnectionError("lost with its answer")
        return reply

    def take_snapshot(self) -> None:
        """What is in its file."""
        self._snapshot = {key: self._connection.execute("DUMP", key) for key in self._connection.execute("KEYS", "*")}

    def stop(self) -> None:
        self.is_down = True

    def start(self, *, is_restored: bool) -> None:
        if is_restored:
            self._connection.execute("FLUSHDB")
            for key, content in self._snapshot.items():
                self._connection.execute("RESTORE", key, "0", content)
        self._is_script_loaded = False
        self.is_down = False

    def flush(self) -> None:
        self._connection.execute("FLUSHDB")


class Notifications:
    """Change notifications of one process: late, or lost."""

    def __init__(self, server: SimulatedServer, draw: random.Random, lost_share: float) -> None:
        self._draw = draw
        self._lost_share = lost_share
        self._events: dict[str, set[asyncio.Event]] = {}
        server.listeners.append(self._receive)

    def _receive(self, message: bytes) -> None:
        if self._draw.random() >= self._lost_share:
            for key in orjson.loads(message):
                for event in self._events.get(key, ()):
                    asyncio.get_running_loop().call_later(self._draw.expovariate(500), event.set)

    @asynccontextmanager
    async def listen(self, _: str, key: str) -> AsyncIterator[asyncio.Event]:
        event = asyncio.Event()
        self._events.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._events[key].discard(event)


@dataclass
class Interleaving:
    """One seed."""

    connection: Connection
    seed: int
    sha: bytes
    """The script in the simulation, as the server has loaded it."""
    computations: int = 0
    reads: int = 0
    hits: int = 0
    stale: list[str] = field(default_factory=list)
    """Reads of what had been replaced more than a second before they began."""
    commits: dict[str, list[float]] = field(default_factory=lambda: {"mug": [0.0], "pot": [0.0]})

    async def run(self) -> None:
        self._draw = draw = random.Random(self.seed)
        self._server = server = SimulatedServer(self.connection, draw, self.sha)
        lost_share = draw.choice((0.0, 0.5, 1.0))
        caches = [SharedCache(cast(Any, server), cast(Any, Notifications(server, draw, lost_share))) for _ in range(3)]
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(draw.randint(2, 5)):
                    group.create_task(self._change(draw.choice(caches), draw.choice(("mug", "pot"))))
                for _ in range(draw.randint(10, 20)):
                    group.create_task(self._read(draw.choice(caches), draw.choice(tuple(SKUS_OF_PAGE))))
                for fault in (self._restart, self._flush, self._set_clock):
                    if draw.random() < 0.4:
                        group.create_task(fault())
        finally:
            for cache in caches:
                await cache.close()

    async def _change(self, cache: SharedCache, sku: str) -> None:
        await asyncio.sleep(self._draw.uniform(0, SPAN))
        self.commits[sku].append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._draw.expovariate(50))
        await cache.invalidate([PRODUCT(sku)])

    async def _read(self, cache: SharedCache, page: str) -> None:
        await asyncio.sleep(self._draw.uniform(0, SPAN))
        asked_at = asyncio.get_running_loop().time()
        answer = await cache.read(PAGES, page, lambda: self._compute(page))
        self.reads += 1
        self.hits += answer.result != "miss"
        versions: dict[str, int] = orjson.loads(answer.value or b"")
        for sku, version in versions.items():
            replaced = [at for at in self.commits[sku][version + 1 :] if at < asked_at - MAX_STALE_SECONDS]
            if replaced:
                self.stale.append(f"{page}: {sku} {version}, {asked_at - replaced[0]:.2f} s after it was replaced")

    async def _compute(self, page: str) -> Fill:
        self.computations += 1
        await asyncio.sleep(self._draw.expovariate(100))
        versions = {sku: len(self.commits[sku]) - 1 for sku in SKUS_OF_PAGE[page]}
        await asyncio.sleep(self._draw.choice((0.0, 0.01, 0.1, 0.5, 2.0, 4.0)))
        return Fill(orjson.dumps(versions), frozenset(map(PRODUCT, SKUS_OF_PAGE[page])))

    async def _restart(self) -> None:
        await asyncio.sleep(self._draw.uniform(0, SPAN))
        is_restored = self._draw.random() < 0.7
        self._server.take_snapshot()
        await asyncio.sleep(self._draw.uniform(0, 1))
        self._server.stop()
        await asyncio.sleep(self._draw.uniform(0, 2))
        self._server.start(is_restored=is_restored)

    async def _flush(self) -> None:
        await asyncio.sleep(self._draw.uniform(0, SPAN))
        self._server.flush()

    async def _set_clock(self) -> None:
        for _ in range(2):
            await asyncio.sleep(self._draw.uniform(0, SPAN / 2))
            self._server.clock_offset += self._draw.choice((-600, 600))


def run_interleavings(url: str, seeds: range, script: str = SCRIPT) -> list[Interleaving]:
    loop, connection = VirtualLoop(), Connection(url)
    try:
        sha = connection.execute("SCRIPT", "LOAD", _SIMULATED_SERVER.replace("SCRIPT", script))
        interleavings = [Interleaving(connection, seed, sha) for seed in seeds]
        for interleaving in interleavings:
            loop.run_until_complete(interleaving.run())
        return interleavings
    finally:
        loop.close()
        connection.close()
