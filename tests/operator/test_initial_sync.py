"""The cache against what the API server lists: the initial sync waits for all of it, and a stale watch is found."""

import asyncio

import pytest
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.initial_sync import RELIST_SECONDS, WATCHED_KINDS, InitialSync
from caravan_operator.controller.watch_verifier import STALE_AFTER, WatchVerifier
from caravan_operator.resources import KINDS

from tests.operator.api_script import PATH, Clock, Script, build_object
from tests.operator.resources import make_resource
from tests.support.shop import wait_until


async def test_the_start_waits_for_all_that_is_there(server: Script, kubernetes: Kubernetes) -> None:
    kind = "GET /api/v1/namespaces/shop/services"
    for group, version, plural in WATCHED_KINDS:
        server.set_answers(
            f"GET {f'/apis/{group}' if group else '/api'}/{version}/namespaces/shop/{plural}",
            (404, {"message": "not installed"}),
        )
    items = [{"metadata": {"uid": uid}} for uid in ("first", "second", "deleted")]
    pages = ({"metadata": {"continue": "on"}, "items": items[:1]}, {"metadata": {}, "items": items[1:]})
    server.set_answers(
        kind,
        (410, {"message": "too old"}),
        *((200, page) for page in pages),
        (200, {"metadata": {}, "items": items[:2]}),
    )
    clock = Clock()
    initial_sync = InitialSync(kubernetes, ["shop"], clock)
    waiting = asyncio.create_task(initial_sync.wait_until_complete())
    initial_sync.record_object(items[0])

    def is_complete() -> bool:
        return initial_sync.is_complete

    async def asked(times: int) -> bool:
        return len(server.list_requests(kind)) == times

    await wait_until(lambda: asked(3))
    initial_sync.record_object(items[1])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.3)
    assert not is_complete(), "the third is there, and no watch has brought it"
    clock.now += RELIST_SECONDS
    await asyncio.wait_for(waiting, 5)
    assert is_complete()
    assert len(server.list_requests(kind)) == 4


async def test_a_watch_that_is_stale_is_found_out(server: Script, kubernetes: Kubernetes) -> None:
    for kind in KINDS.values():
        server.set_answers(
            f"GET /apis/{kind.group}/{kind.version}/namespaces/shop/{kind.plural}",
            (200, {"metadata": {}, "items": None}),
        )
    listed = {"metadata": {}, "items": [build_object()]}
    server.set_answers(f"GET {PATH.rpartition('/')[0]}", (200, {"metadata": {}, "items": None}), (200, listed))
    clock, cache = Clock(), ResourceCache()
    verifier = WatchVerifier(kubernetes, cache, ["shop"], clock)

    async def verify() -> bool:
        await verifier.verify_once()
        return verifier.is_stale

    assert not await verify()
    await verify()
    clock.now += STALE_AFTER + 1
    assert await verify(), "the resource is there for long and no watch has brought it"
    cache.put(make_resource())
    assert not await verify()
    cache.put(make_resource(name="gone"))
    await verify()
    clock.now += STALE_AFTER + 1
    assert verifier.is_stale, "a deletion was missed"
