"""Discovery by snapshots, from a file and from the operator: only what is sound and newer comes into force, and what
can't be read stops nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.discovery import DnsDiscovery, SnapshotDiscovery, snapshot
from caravan.discovery.routing_snapshot import MAX_BYTES
from caravan.errors import ServiceUnavailable
from caravan.telemetry.metrics import REGISTRY_SNAPSHOTS
from tests.services.gateway.snapshots import DRAINING, READY, Mounted, Operator, document, endpoint
from tests.services.gateway.stand_ins import listening
from tests.support.shop import wait_until

HALF_A_PAIR = b'{"schema": "routing.caravan.dev/v1", "gateway": "\\ud800"}'
A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


def make_discovery(file: Path | None = None, url: str = "") -> SnapshotDiscovery:
    return SnapshotDiscovery(DnsDiscovery("http://{service}.test"), file, url)


async def list_urls(discovery: SnapshotDiscovery, service: str = "pets") -> set[str]:
    return {(await discovery.acquire_endpoint(service)).url for _ in range(4)}


def get_sequence(discovery: SnapshotDiscovery) -> int:
    return discovery.current_snapshot.sequence if discovery.current_snapshot else 0


async def test_a_service_of_the_snapshot_is_where_it_says_and_any_other_where_the_fallback_says() -> None:
    discovery = make_discovery()
    assert await list_urls(discovery) == {"http://pets.test"}
    entry = {"endpoints": [endpoint(A), endpoint(B)], "limits": {"maxInFlight": 9}}
    discovery.apply_if_newer(document(1, {"pets": entry}), "file")
    assert await list_urls(discovery) == {A, B}
    assert await list_urls(discovery, "cats") == {"http://cats.test"}
    assert (discovery.get_policy("pets").limits.max_in_flight, discovery.get_policy("cats").limits.max_in_flight) == (
        9,
        None,
    )
    assert await discovery.list_services() == {"pets"}
    assert len(await discovery.list_endpoints("pets")) >= 1
    discovery.apply_if_newer(document(2, {}), "file")
    assert await list_urls(discovery) == {"http://pets.test"}


@pytest.mark.parametrize(
    ("first", "second", "urls"),
    [
        (READY, DRAINING, {A}),
        (DRAINING, DRAINING, {A, B}),
        ({**READY, "terminating": True}, READY, {B}),
        ({"ready": False, "serving": False, "terminating": False}, DRAINING, {B}),
    ],
)
async def test_ready_endpoints_are_used_and_those_that_leave_only_when_there_are_no_others(
    first: dict[str, bool], second: dict[str, bool], urls: set[str]
) -> None:
    discovery = make_discovery()
    discovery.apply_if_newer(document(1, {"pets": [endpoint(A, **first), endpoint(B, **second)]}), "file")
    assert await list_urls(discovery) == urls


async def test_a_service_without_endpoints_is_unavailable_and_not_looked_for_elsewhere() -> None:
    discovery = make_discovery()
    discovery.apply_if_newer(document(1, {"pets": []}), "file")
    with pytest.raises(ServiceUnavailable, match="pets is not ready"):
        await discovery.acquire_endpoint("pets")


async def test_an_endpoint_that_stays_keeps_what_is_known_of_it() -> None:
    discovery = make_discovery()
    discovery.apply_if_newer(document(1, {"pets": [endpoint(A)]}), "file")
    before = await discovery.acquire_endpoint("pets")
    discovery.apply_if_newer(document(2, {"pets": [endpoint(A)], "cats": []}), "file")
    assert await discovery.acquire_endpoint("pets") is before


def test_listeners_hear_of_a_snapshot_in_force_and_of_nothing_else() -> None:
    discovery, heard = make_discovery(), list[int]()
    discovery.add_change_listener(lambda: heard.append(get_sequence(discovery)))
    pets = {"pets": [endpoint(A)]}
    for raw in (document(2, pets), b"{", document(1, {}), document(2, {}), document(3, pets), document(4, {})):
        discovery.apply_if_newer(raw, "file")
    assert heard == [2, 4], "3 has the content of 2"
    assert get_sequence(discovery) == 4


@given(st.lists(st.integers(1, 6), max_size=12))
def test_in_whatever_order_they_come_the_newest_is_in_force(sequences: list[int]) -> None:
    """A sequence has one content, as an operator gives it."""
    discovery = make_discovery()
    for sequence in sequences:
        discovery.apply_if_newer(document(sequence, {f"pets-{sequence // 2}": []}), "url")
    newest = max(sequences, default=0)
    assert get_sequence(discovery) == newest
    current = discovery.current_snapshot
    assert (set(current.services) if current else set()) == ({f"pets-{newest // 2}"} if newest else set())


@asynccontextmanager
async def watch(discovery: SnapshotDiscovery) -> AsyncIterator[Callable[[int], Any]]:
    """Waits for a sequence to be in force, while the sources are followed."""

    async def wait_for_sequence(sequence: int) -> None:
        async def is_in_force() -> bool:
            return get_sequence(discovery) == sequence

        await wait_until(is_in_force)

    watching = asyncio.create_task(discovery.watch_changes())
    try:
        yield wait_for_sequence
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def get_reason(discovery: SnapshotDiscovery, source: str) -> str:
    status = discovery.get_status()
    assert status is not None
    sources = status["sources"]
    assert isinstance(sources, dict)
    return str(sources.get(source, ""))


async def wait_for_reason(discovery: SnapshotDiscovery, source: str, reason: str) -> None:
    async def is_reported() -> bool:
        return reason in get_reason(discovery, source)

    await wait_until(is_reported)


async def test_a_mounted_file_is_followed_and_one_that_is_gone_or_broken_leaves_the_last_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_FILE_SECONDS", 0.01)
    mounted = Mounted(tmp_path)
    discovery = make_discovery(mounted.path)
    async with watch(discovery) as wait_for_sequence:
        await wait_for_reason(discovery, "file", "No such file")
        mounted.put(document(1, {"pets": [endpoint(A)]}))
        await wait_for_sequence(1)
        assert get_reason(discovery, "file") == "ok"
        (tmp_path / "..data").unlink()
        await wait_for_reason(discovery, "file", "No such file")
        assert await list_urls(discovery) == {A}
        mounted.put(document(2, {}))
        await wait_for_sequence(2)


async def count_refused() -> float:
    return next(
        sample.value
        for metric in REGISTRY_SNAPSHOTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["result"] == "invalid"
    )


@pytest.mark.parametrize("raw", [b"{", b"[" * 200_000, HALF_A_PAIR], ids=["cut off", "deep", "surrogate"])
async def test_a_file_that_is_no_snapshot_is_refused_and_followed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    monkeypatch.setattr(snapshot, "_FILE_SECONDS", 0.01)
    REGISTRY_SNAPSHOTS.labels("invalid")
    mounted, before = Mounted(tmp_path), await count_refused()
    discovery = make_discovery(mounted.path)
    mounted.put(raw)

    async def is_refused() -> bool:
        return await count_refused() == before + 1

    async with watch(discovery) as wait_for_sequence:
        await wait_until(is_refused, seconds=3)
        mounted.put(document(1, {"pets": [endpoint(A)]}))
        await wait_for_sequence(1)


async def test_the_operator_is_polled_for_what_is_new_and_asked_again_after_it_was_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "_MIN_BACKOFF", 0.01)
    monkeypatch.setattr(snapshot, "_MAX_BACKOFF", 0.02)
    operator, statuses = Operator(), [503]

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if statuses:
            await send({"type": "http.response.start", "status": statuses[0], "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await operator(scope, receive, send)

    async with listening(serve) as url:
        discovery = make_discovery(url=url)
        async with watch(discovery) as wait_for_sequence:
            await wait_for_reason(discovery, "url", "503")
            operator.put(document(1, {"pets": [endpoint(A)]}))
            statuses.clear()
            await wait_for_sequence(1)
            polls = operator.polls
            operator.put(document(2, {}))
            await wait_for_sequence(2)
            assert operator.polls - polls <= 2, "a poll that has nothing new is held"
            assert get_reason(discovery, "url") == "ok"
        operator.put(b"")  # ends the poll that was held


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ([], document(1, {}), "no new ETag"),
        ([(b"etag", b'"1"')], b" " * (MAX_BYTES + 1), f"over {MAX_BYTES} bytes"),
    ],
    ids=["no tag", "too large"],
)
async def test_an_answer_that_no_operator_gives_is_reported_and_not_applied(
    headers: list[tuple[bytes, bytes]], body: bytes, reason: str
) -> None:
    async def serve(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with listening(serve) as url:
        discovery = make_discovery(url=url)
        async with watch(discovery):
            await wait_for_reason(discovery, "url", reason)
    assert get_sequence(discovery) == 0
