"""What goes over the wire to the Kubernetes API, against a server that answers as the test says: retries, versions, the
Lease; and that nothing goes out without it.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.backends.management import RabbitLogin
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.initial_sync import RELIST_SECONDS, WATCHED_KINDS, InitialSync
from caravan_operator.controller.lease import Lease, LeaseLost
from caravan_operator.controller.resource_writer import ResourceWriter, StaleResource
from caravan_operator.controller.status_writer import StatusWriter
from caravan_operator.controller.watch_verifier import STALE_AFTER, WatchVerifier
from caravan_operator.reconcile.kafka_topic import CreateTopic, DeleteTopic, Topic
from caravan_operator.reconcile.rabbitmq_call import Call
from caravan_operator.resources import KINDS
from caravan_operator.status.conditions import SYNCED, Condition
from caravan_operator.status.reasons import Reason

from tests.operator.resources import START, make_resource
from tests.support.shop import wait_until

PATH = "/apis/messaging.caravan.dev/v1alpha1/namespaces/shop/kafkatopics/orders"
EVENTS = "POST /api/v1/namespaces/shop/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/shop/leases"
IN_SYNC = [Condition(SYNCED, True, Reason.IN_SYNC)]


class Script:
    """An API server that answers as the test says: the answers of a call in their order, the last one again and
    again.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        self._answers: dict[str, list[tuple[int, Any]]] = {EVENTS: [(201, {})]}

    def set_answers(self, call: str, *answers: tuple[int, Any]) -> None:
        self._answers[call] = [*answers]

    def list_requests(self, call: str) -> list[tuple[Any, dict[str, str]]]:
        """Bodies and headers of a call."""
        return [(body, headers) for received, body, headers in self.requests if received == call]

    async def __call__(self, request: web.Request) -> web.Response:
        call = f"{request.method} {request.path}"
        self.requests.append((call, await request.json() if request.can_read_body else None, dict(request.headers)))
        answers = self._answers[call]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.json_response(body, status=status)


@pytest.fixture
async def server() -> AsyncIterator[Script]:
    script = Script()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", script)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()


@pytest.fixture
async def kubernetes(server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kubernetes]:
    config = {
        "current-context": "script",
        "contexts": [{"name": "script", "context": {"cluster": "script", "user": "script"}}],
        "clusters": [{"name": "script", "cluster": {"server": server.url}}],
        "users": [{"name": "script", "user": {"token": "first"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    api = Kubernetes()
    yield api
    await api.close()


def build_object(version: str = "2") -> dict[str, Any]:
    meta = {
        "namespace": "shop",
        "name": "orders",
        "uid": "uid-shop-orders",
        "resourceVersion": version,
        "creationTimestamp": "2030-01-01T00:00:00Z",
    }
    return {"metadata": meta, "spec": {"connectionRef": {"name": "broker"}, "partitions": 3}}


def make_resource_writer(
    kubernetes: Kubernetes, cache: ResourceCache | None = None, fence: Any = lambda: None
) -> ResourceWriter:
    return ResourceWriter(kubernetes, cache or ResourceCache(), fence)


def make_status_writer(kubernetes: Kubernetes, cache: ResourceCache | None = None) -> StatusWriter:
    return StatusWriter(kubernetes, make_resource_writer(kubernetes, cache), lambda: START, "test")


async def test_refusals_of_the_moment_are_tried_again(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers("GET /x", (429, {}), (503, {}), (200, {"found": 1}))
    assert await kubernetes.get("/x") == {"found": 1}
    assert len(server.list_requests("GET /x")) == 3


async def test_patience_ends_with_the_servers_answer(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers("GET /x", (503, {"message": "too busy"}))
    with pytest.raises(ApiError, match="too busy"):
        await kubernetes.request("GET", "/x", retry_seconds=4)


async def test_a_patch_names_the_version_that_was_read(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"PATCH {PATH}/status", (200, build_object()))
    cache = ResourceCache()
    cache.put(make_resource())
    status_writer = make_status_writer(kubernetes, cache)
    written = await status_writer.write_status(make_resource(), IN_SYNC, {"partitions": 3})
    await status_writer.close()
    ((sent, headers),) = server.list_requests(f"PATCH {PATH}/status")
    assert sent["metadata"] == {"resourceVersion": "1", "uid": "uid-shop-orders"}
    assert sent["status"]["partitions"] == 3
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert headers["Authorization"] == "Bearer first"
    assert written.resource_version == "2"
    assert cache.get(written.key) == written


async def test_a_status_that_says_nothing_new_is_not_sent(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"PATCH {PATH}/status", (200, build_object()))
    status_writer = make_status_writer(kubernetes)
    await status_writer.write_status(make_resource(), IN_SYNC, {})
    first = server.list_requests(f"PATCH {PATH}/status")[0][0]["status"]
    await status_writer.write_status(make_resource(status=first), IN_SYNC, {})
    await status_writer.close()
    assert len(server.list_requests(f"PATCH {PATH}/status")) == 1


@pytest.mark.parametrize("status", [404, 409])
async def test_who_comes_too_late_looks_again(server: Script, kubernetes: Kubernetes, status: int) -> None:
    server.set_answers(f"PATCH {PATH}", (status, {}))
    with pytest.raises(StaleResource):
        await make_resource_writer(kubernetes).write_claim(make_resource(), finalizer=True)


async def test_a_claim_and_the_finalizer_are_one_patch(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"PATCH {PATH}", (200, build_object()))
    await make_resource_writer(kubernetes).write_claim(make_resource(), finalizer=True)
    ((sent, _),) = server.list_requests(f"PATCH {PATH}")
    assert sent["metadata"]["annotations"] == {"messaging.caravan.dev/claim": "uid-shop-orders"}
    assert sent["metadata"]["finalizers"] == ["messaging.caravan.dev/external-object"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_lease(kubernetes: Kubernetes, clock: Clock) -> Lease:
    return Lease(kubernetes, "shop", "me", duration=15, clock=clock)


def build_lease(holder: str, renewed_at: str = "2030-01-01T00:00:00.000000Z") -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed_at, "leaseTransitions": 3}
    return {"metadata": {"name": "caravan-operator", "resourceVersion": "7"}, "spec": spec}


async def test_the_first_creates_the_lease(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"GET {LEASES}/caravan-operator", (404, {}))
    server.set_answers(f"POST {LEASES}", (200, {}))
    lease = make_lease(kubernetes, Clock())
    with pytest.raises(LeaseLost):
        lease.ensure_held()
    await lease.acquire()
    lease.ensure_held()
    assert server.list_requests(f"POST {LEASES}")[0][0]["spec"]["holderIdentity"] == "me"


async def test_a_lease_is_taken_when_it_has_not_moved_for_its_duration_by_our_own_clock(
    server: Script, kubernetes: Kubernetes
) -> None:
    """The other's clock is far in the future: its times are never compared with ours."""
    server.set_answers(f"GET {LEASES}/caravan-operator", (200, build_lease("other", "2099-01-01T00:00:00.000000Z")))
    server.set_answers(f"PUT {LEASES}/caravan-operator", (200, {}))
    clock = Clock()
    lease = make_lease(kubernetes, clock)
    assert not await lease._try_acquire()
    clock.now += 14
    assert not await lease._try_acquire()
    clock.now += 2
    assert await lease._try_acquire()
    ((sent, _),) = server.list_requests(f"PUT {LEASES}/caravan-operator")
    assert sent["metadata"]["resourceVersion"] == "7"
    assert sent["spec"]["leaseTransitions"] == 4


async def test_who_renews_is_not_replaced(server: Script, kubernetes: Kubernetes) -> None:
    renewals = [(200, build_lease("other", f"2030-01-01T00:00:{second:02}.000000Z")) for second in range(5)]
    server.set_answers(f"GET {LEASES}/caravan-operator", *renewals)
    clock = Clock()
    lease = make_lease(kubernetes, clock)
    for _ in range(5):
        assert not await lease._try_acquire()
        clock.now += 10


async def test_of_two_that_take_it_one_gets_it(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"GET {LEASES}/caravan-operator", (200, build_lease("")))
    server.set_answers(f"PUT {LEASES}/caravan-operator", (409, {}))
    assert not await make_lease(kubernetes, Clock())._try_acquire()


async def test_a_process_that_was_paused_is_fenced_before_it_renews(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"GET {LEASES}/caravan-operator", (200, build_lease("me")))
    server.set_answers(f"PUT {LEASES}/caravan-operator", (200, {}))
    clock = Clock()
    lease = make_lease(kubernetes, clock)
    await lease.acquire()
    clock.now += 11
    lease.ensure_held()
    clock.now += 2  # within the duration, but with no time left to write
    with pytest.raises(LeaseLost):
        lease.ensure_held()


@pytest.fixture
def fence() -> Any:
    def refuse_write() -> None:
        raise LeaseLost("paused for too long")

    return refuse_write


async def test_nothing_is_written_to_kubernetes_without_the_lease(
    server: Script, kubernetes: Kubernetes, fence: Any
) -> None:
    writer = make_resource_writer(kubernetes, fence=fence)
    for attempt in (
        writer.write_claim(make_resource(), finalizer=True),
        StatusWriter(kubernetes, writer, lambda: START, "test").write_status(make_resource(), IN_SYNC, {}),
        writer.set_finalizer(make_resource(), present=True),
    ):
        with pytest.raises(LeaseLost):
            await attempt
    assert server.requests == []


async def test_nothing_is_written_to_kafka_without_the_lease(fence: Any) -> None:
    kafka = Kafka(KafkaLogin({"bootstrap.servers": "127.0.0.1:1"}, ()), {"requestTimeout": "1s"}, fence)
    for action in (CreateTopic(Topic("orders", 1)), DeleteTopic("orders")):
        with pytest.raises(LeaseLost):
            await kafka.apply_actions([(action,)])


async def test_nothing_is_written_to_rabbitmq_without_the_lease(server: Script, fence: Any) -> None:
    rabbit = RabbitMQ(RabbitLogin(server.url, "user", "password", None), {}, fence)
    with pytest.raises(LeaseLost):
        await rabbit.apply_actions(
            [(Call("PUT", "/api/queues/%2F/q", "create"), Call("DELETE", "/api/queues/%2F/q", "delete"))]
        )
    await rabbit.close()
    assert server.requests == []


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
