"""The cache's side in Redis: one Lua script that reads, stores and invalidates, each in one round trip.

An entry is a hash with its value, its tags and the moment at which its computation began. A tag is a stamp: the moment
of its last invalidation. An entry is current while each of its tags has a stamp that is older than the entry; a stamp
that is missing counts as an invalidation, because Redis may have evicted it. So an invalidation writes one key, however
many entries hold the tag, and a computation that began before it can't be stored or served after it. A stamp is kept as
long as an entry holds its tag, and a minute at least.

Moments are Redis' clock, and always rise: where that clock was set back, the next moment is the last one plus a
microsecond. No process' own clock is used.

A restart of Redis may bring back entries without the stamps that voided them. The script is unknown to a server that
has just started; whoever loads it there names a new epoch, and only entries and computations of the current epoch
count. For that all operations have to be one script.
"""

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from caravan import fault_flags
from caravan.cache.declarations import MAX_LEASE_SECONDS

FENCE_SECONDS = 2 * MAX_LEASE_SECONDS
"""How long the stamp of a tag that no entry holds is kept, for computations that are under way."""
TIMEOUT_SECONDS = 0.5
"""Only readers of the moment at which Redis goes away wait for it; a machine under load answers well within it."""
JITTER = 0.2
"""Entries that were made together end apart: a life is up to this share shorter than declared."""
REFRESH_SHARE = 0.75
"""After this share of its life an entry is computed anew by one reader, while it is still served."""
META = "cache:meta"
SUBJECT = "cache"
"""Of the change notification that wakes those who wait for an entry."""

SCRIPT = """
local META, token, fresh_epoch = KEYS[1], ARGV[2], ARGV[3]
local epoch = redis.call('HGET', META, 'epoch')
if ARGV[4] == '1' or not epoch then
  epoch = fresh_epoch
  redis.call('HSET', META, 'epoch', epoch)
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function tick()
  local moment = math.max(now, (tonumber(redis.call('HGET', META, 'clock') or '0')) + 1)
  redis.call('HSET', META, 'clock', string.format('%.0f', moment))
  return moment
end

local function list_stamps(tags)
  local keys = {}
  for tag in string.gmatch(tags, '[^\\n]+') do keys[#keys + 1] = 'cache:tag:' .. tag end
  if #keys == 0 then return {}, {} end
  return keys, redis.call('MGET', unpack(keys))
end

local function is_current(made_at, tags)
  local keys, stamps = list_stamps(tags)
  for index = 1, #keys do
    if not stamps[index] or tonumber(stamps[index]) >= made_at then return false end
  end
  return true
end

local function count_evictions()
  return string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)') or '?'
end

local function take_lease(entry, milliseconds)
  local lease = entry .. ':lease'
  if redis.call('SET', lease, token, 'NX', 'PX', milliseconds) or redis.call('GET', lease) == token then
    return {string.format('%.0f', tick()), epoch, count_evictions()}
  end
  return false
end

local function read_entry(entry, lease_milliseconds)
  local fields = redis.call('HMGET', entry, 'epoch', 'made_at', 'refresh_at', 'tags')
  if fields[1] == epoch and is_current(tonumber(fields[2]), fields[4]) then
    local lease = false
    local is_due = now >= tonumber(fields[3])
    if is_due then lease = take_lease(entry, lease_milliseconds) end
    return {is_due and 'stale' or 'hit', lease, redis.call('PTTL', entry), redis.call('HGET', entry, 'value')}
  end
  local lease = take_lease(entry, lease_milliseconds)
  if lease then return {'miss', lease} end
  redis.call('SET', entry .. ':waiters', '1', 'PX', lease_milliseconds)
  return {'wait', false, redis.call('PTTL', entry .. ':lease')}
end

local function end_lease(entry, channel, message)
  local lease = entry .. ':lease'
  if redis.call('GET', lease) ~= token then return false end
  redis.call('DEL', lease)
  if redis.call('DEL', entry .. ':waiters') == 1 then redis.call('PUBLISH', channel, message) end
  return true
end

local function keep_stamp(key, milliseconds)
  if redis.call('PTTL', key) < tonumber(milliseconds) then redis.call('PEXPIRE', key, milliseconds) end
end

local function store_entry(entry, started, lease_epoch, evictions, life, refresh, stamp_life, tags, has_value, value)
  if lease_epoch ~= epoch then return 'lost' end
  local made_at = tonumber(started)
  local keys, stamps = list_stamps(tags)
  local is_fenced = false
  local has_evicted = count_evictions() ~= evictions
  for index = 1, #keys do
    if stamps[index] then
      is_fenced = is_fenced or tonumber(stamps[index]) >= made_at
      keep_stamp(keys[index], stamp_life)
    elseif has_evicted then
      is_fenced = true
      redis.call('SET', keys[index], string.format('%.0f', tick()), 'PX', stamp_life)
    else
      local stamp = evictions == '0' and '0' or string.format('%.0f', made_at - 1)
      redis.call('SET', keys[index], stamp, 'PX', stamp_life)
    end
  end
  if is_fenced then return 'fenced' end
  redis.call('DEL', entry)
  redis.call('HSET', entry, 'epoch', epoch, 'made_at', started, 'tags', tags,
    'refresh_at', string.format('%.0f', now + refresh * 1000))
  if has_value == '1' then redis.call('HSET', entry, 'value', value) end
  redis.call('PEXPIRE', entry, life)
  return 'stored'
end

if ARGV[1] == 'read' then
  local answers = {}
  for index = 2, #KEYS do answers[index - 1] = read_entry(KEYS[index], ARGV[index + 3]) end
  return answers
elseif ARGV[1] == 'store' then
  if not end_lease(KEYS[2], ARGV[5], ARGV[6]) then return 'lost' end
  return store_entry(KEYS[2], unpack(ARGV, 7))
elseif ARGV[1] == 'release' then
  return end_lease(KEYS[2], ARGV[5], ARGV[6]) and 'released' or 'lost'
elseif ARGV[1] == 'invalidate' then
  local stamp = string.format('%.0f', tick())
  for index = 6, #ARGV do
    local key = 'cache:tag:' .. ARGV[index]
    redis.call('SET', key, stamp, 'PX', math.max(redis.call('PTTL', key), tonumber(ARGV[5])))
  end
  return 'invalidated'
elseif ARGV[1] == 'void' then
  redis.call('HSET', META, 'epoch', fresh_epoch)
  return 'voided'
end
return redis.error_reply('unknown operation ' .. ARGV[1])
"""
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class CacheUnavailable(Exception):
    """Redis did not answer, or not in time."""


@dataclass(slots=True)
class Lease:
    """The right to compute an entry, as it was when the computation began."""

    token: str
    started: str
    epoch: str
    evictions: str


@dataclass(slots=True)
class EntryState:
    """What a read found: `hit`, `stale`, `miss` (nobody computes it) or `wait` (somebody does).

    All who asked in one batch share it; `take_lease` gives the lease to one of them.
    """

    state: str
    seconds_left: float
    value: bytes | None
    lease: Lease | None

    def take_lease(self) -> Lease | None:
        lease, self.lease = self.lease, None
        return lease


class CacheServer:
    """Runs the script. Raises CacheUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read_entries(self, requests: Sequence[tuple[str, float]]) -> dict[tuple[str, float], EntryState]:
        """The entries of these keys; each with the seconds that a lease of it lasts."""
        token = os.urandom(8).hex()
        reply = await self._run_script(
            "read", token, [key for key, _ in requests], [_to_milliseconds(seconds) for _, seconds in requests]
        )
        return {request: _parse_state(token, answer) for request, answer in zip(requests, reply, strict=True)}

    async def store_entry(
        self, key: str, lease: Lease, value: bytes | None, tags: Collection[str], seconds: float
    ) -> str:
        """`stored`; `fenced` when a tag was invalidated since the lease began; `lost` when the lease is no longer
        ours.
        """
        life = seconds * random.uniform(1 - JITTER, 1)
        arguments: list[str | bytes] = [
            *_build_wake_message(key),
            lease.started,
            lease.epoch,
            lease.evictions,
            _to_milliseconds(life),
            _to_milliseconds(life * REFRESH_SHARE),
            _to_milliseconds(life + FENCE_SECONDS),
            "\n".join(sorted(tags)),
            "0" if value is None else "1",
            value or b"",
        ]
        reply: bytes = await self._run_script("store", lease.token, [key], arguments)
        return reply.decode()

    async def release_lease(self, key: str, lease: Lease) -> None:
        await self._run_script("release", lease.token, [key], [*_build_wake_message(key)])

    async def invalidate_tags(self, tags: Collection[str]) -> None:
        await self._run_script("invalidate", "", [], [_to_milliseconds(FENCE_SECONDS), *tags])

    async def void_all(self) -> None:
        """Every entry, at once."""
        await self._run_script("void", "", [], [])

    async def _run_script(
        self, operation: str, token: str, keys: Sequence[str], arguments: Sequence[str | bytes]
    ) -> Any:
        fresh_epoch = os.urandom(8).hex()

        def run(method: Callable[..., Awaitable[Any]], script: str, is_new: str) -> Awaitable[Any]:
            return method(script, 1 + len(keys), META, *keys, operation, token, fresh_epoch, is_new, *arguments)

        try:
            if fault_flags.active:
                fault_flags.fail(fault_flags.CACHE_UNAVAILABLE)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                try:
                    return await run(self._redis.evalsha, SHA, "0")
                except NoScriptError:
                    return await run(self._redis.eval, SCRIPT, "1")
        except (RedisError, OSError, TimeoutError) as error:
            raise CacheUnavailable(repr(error)) from error


def _parse_state(token: str, answer: list[Any]) -> EntryState:
    state, lease, *rest = answer
    return EntryState(
        state.decode(),
        rest[0] / 1000 if rest else 0.0,
        rest[1] if len(rest) > 1 else None,
        Lease(token, *(part.decode() for part in lease)) if lease else None,
    )


def _build_wake_message(key: str) -> tuple[str, bytes]:
    """A change notification as `caravan/live.py` reads it."""
    return f"live:{SUBJECT}", orjson.dumps([key])


def _to_milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
