"""The hub: everything once and in order for each watcher, whatever is lost on the way and however late a client takes
it.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from caravan import live_streams
from caravan.live import ChangeNotifications
from caravan.live_streams import Change, LiveHub, encode_change


class LostRedis:
    async def publish(self, channel: str, body: bytes) -> None:
        raise RedisConnectionError(f"{channel} {body!r}")


class Book:
    """A source in memory that counts its loads, and fails or is slow when it is told to."""

    subject = "books"

    def __init__(self, *, is_state: bool = False) -> None:
        self.is_state = is_state
        self.pages: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.loads = 0
        self.is_broken = False

    async def load_changes(self, versions: Mapping[str, int]) -> Mapping[str, Sequence[Change]]:
        self.loads += 1
        found = {key: range(version + 1, self.pages.get(key, 0) + 1) for key, version in versions.items()}
        await asyncio.sleep(0)
        if self.is_broken:
            raise OSError("no database")
        if self.is_state:
            found = {key: new[-1:] for key, new in found.items()}
        return {
            key: [encode_change("page", n, {"n": n}, is_last=n == self.last.get(key)) for n in new]
            for key, new in found.items()
        }


def make_hub(book: Book, **options: Any) -> tuple[LiveHub, ChangeNotifications]:
    redis: Any = LostRedis()
    notifications = ChangeNotifications(redis, redis)
    return LiveHub(book, notifications, **options), notifications


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_streams, "POLL_SECONDS", 0.05)


def parse(part: bytes) -> list[tuple[str, int]]:
    """Events by name and id; comments and `retry` are none."""
    events = []
    for block in part.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
        if b"data" in fields:
            events.append((fields[b"event"].decode(), int(fields.get(b"id", b"0"))))
    return events


async def read_ids(stream: AsyncGenerator[bytes, None], until: int) -> list[int]:
    """The ids that come, up to this one."""
    ids: list[int] = []
    async with asyncio.timeout(10):
        async for part in stream:
            ids += [number for name, number in parse(part) if name == "page"]
            if ids and ids[-1] >= until:
                break
    return ids


async def test_a_watcher_gets_what_there_is_and_then_each_change_by_a_notification_or_by_the_poll() -> None:
    book = Book()
    hub, notifications = make_hub(book)
    book.pages["a"] = 2
    stream = hub.watch("a", 0)
    assert await read_ids(stream, 2) == [1, 2]
    for notified in (True, False):
        book.pages["a"] += 1
        if notified:
            await notifications.publish("books", ["a"])
        assert await read_ids(stream, book.pages["a"]) == [book.pages["a"]]
    await stream.aclose()
    assert hub.open_streams == 0
    assert hub._topics == {}


async def test_it_resumes_after_a_version_and_ends_after_the_last_change() -> None:
    book = Book()
    hub, _ = make_hub(book)
    book.pages["a"], book.last["a"] = 5, 5
    parts = [part async for part in hub.watch("a", 3)]
    assert [event for part in parts for event in parse(part)] == [("page", 4), ("page", 5)]
    parts = [part async for part in hub.watch("a", 5)]
    assert [event for part in parts for event in parse(part)] == []


async def test_retry_differs_so_that_clients_dont_come_back_together() -> None:
    hub, _ = make_hub(book := Book())
    book.pages["a"] = book.last["a"] = 1
    waits = set()
    for _ in range(20):
        first, *_ = [part async for part in hub.watch("a", 0)]
        assert first.startswith(b"retry: ")
        waits.add(int(first[7:]))
    assert len(waits) > 10
    assert 1000 <= min(waits) <= max(waits) <= 5000


async def test_a_version_that_is_not_ours_is_reset_and_all_comes_from_the_start() -> None:
    hub, _ = make_hub(book := Book())
    book.pages["a"] = book.last["a"] = 2
    parts = [part async for part in hub.watch("a", 9)]
    assert [event for part in parts for event in parse(part)] == [("reset", 0), ("page", 1), ("page", 2)]
    assert orjson.loads(parts[1].split(b"data: ")[1]) == {"version": 2}


async def test_a_hub_that_is_behind_reads_before_it_says_reset() -> None:
    """The client has seen a version at another process, whose notification has not come here."""
    hub, _ = make_hub(book := Book())
    book.pages["a"] = 2
    other = hub.watch("a", 0)
    assert await read_ids(other, 2) == [1, 2]
    book.pages["a"] = book.last["a"] = 5
    parts = [part async for part in hub.watch("a", 4)]
    assert [event for part in parts for event in parse(part)] == [("page", 5)]


async def test_a_state_skips_to_the_newest() -> None:
    hub, _ = make_hub(book := Book(is_state=True))
    book.pages["a"] = 4
    stream = hub.watch("a", 1)
    assert await read_ids(stream, 4) == [4]
    book.pages["a"] = 9
    assert await read_ids(stream, 9) == [9]


async def test_a_change_is_read_and_encoded_once_for_all_who_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_streams, "POLL_SECONDS", 60.0)
    hub, notifications = make_hub(book := Book())
    book.pages["a"] = 1
    streams = [hub.watch("a", 0) for _ in range(500)]
    first = [asyncio.create_task(read_ids(stream, 1)) for stream in streams]
    assert await asyncio.gather(*first) == [[1]] * 500
    assert book.loads <= 3, "all who come at once are served by one load"
    book.pages["a"], loads = 2, book.loads
    frames = [asyncio.create_task(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    await notifications.publish("books", ["a"])
    parts = await asyncio.gather(*frames)
    assert len({id(part) for part in parts}) == 1, "the same bytes"
    assert book.loads == loads + 1


async def test_who_takes_nothing_costs_nothing_and_gets_all_later() -> None:
    hub, notifications = make_hub(book := Book())
    book.pages["a"] = 1
    slow, quick = hub.watch("a", 0), hub.watch("a", 0)
    assert await read_ids(slow, 1) == await read_ids(quick, 1) == [1]
    for version in range(2, 30):
        book.pages["a"] = version
        await notifications.publish("books", ["a"])
        assert await read_ids(quick, version) == [version]
    assert await read_ids(slow, 29) == list(range(2, 30))


async def test_a_database_that_is_away_ends_no_stream() -> None:
    hub, _ = make_hub(book := Book())
    book.pages["a"] = 1
    stream = hub.watch("a", 0)
    assert await read_ids(stream, 1) == [1]
    book.is_broken, book.pages["a"] = True, 2
    waiting = asyncio.create_task(read_ids(stream, 2))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    book.is_broken = False
    assert await waiting == [2]


async def test_a_stream_ends_in_its_time_and_is_kept_alive_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_streams, "HEARTBEAT_SECONDS", 0.1)
    hub, _ = make_hub(book := Book(), stream_seconds=0.6)
    book.pages["a"] = 1
    async with asyncio.timeout(10):
        parts = [part async for part in hub.watch("a", 0)]
    assert 3 <= parts.count(live_streams.HEARTBEAT) <= 8
    assert hub.open_streams == 0
    assert book.loads


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_missed_or_out_of_order_whatever_is_lost(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers, lost notifications, a database that goes and comes, clients that leave and resume: 0 missed."""
    monkeypatch.setattr(live_streams, "POLL_SECONDS", 0.01)
    chance = random.Random(seed)
    hub, notifications = make_hub(book := Book())
    keys = [f"k{n}" for n in range(10)]
    book.last = dict.fromkeys(keys, 12)

    async def write() -> None:
        for _ in range(12):
            for key in chance.sample(keys, len(keys)):
                book.pages[key] = book.pages.get(key, 0) + 1
                if chance.random() < 0.5:
                    await notifications.publish("books", [key])
                await asyncio.sleep(chance.choice((0, 0, 0.002)))
            book.is_broken = chance.random() < 0.2
        book.is_broken = False

    async def follow(key: str) -> list[int]:
        seen: list[int] = []
        while not seen or seen[-1] < 12:
            stream = hub.watch(key, seen[-1] if seen else 0)
            async for part in stream:
                seen += [number for name, number in parse(part) if name == "page"]
                if chance.random() < 0.3:
                    break
                await asyncio.sleep(chance.choice((0, 0.005)))
            await stream.aclose()
        return seen

    async with asyncio.timeout(30):
        *seen, _ = await asyncio.gather(*(follow(key) for key in keys for _ in range(3)), write())
    assert seen == [list(range(1, 13))] * 30
    assert hub.open_streams == 0
