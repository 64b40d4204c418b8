"""The Lease: taken, renewed, taken over by one standby alone, and lost in time."""

import re
from datetime import datetime, tzinfo
from typing import Any, Self

import pytest
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.controller import lease as lease_module
from caravan_operator.controller.lease import Lease, LeaseLost

from tests.operator.api_script import LEASES, Clock, Script


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


async def test_the_times_of_a_lease_have_a_fraction_also_in_a_whole_second(
    server: Script, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server refuses a Lease's time without one."""

    class WholeSecond(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2030, 1, 1, tzinfo=tz)

    monkeypatch.setattr(lease_module, "datetime", WholeSecond)
    server.set_answers(f"GET {LEASES}/caravan-operator", (404, {}))
    server.set_answers(f"POST {LEASES}", (200, {}))
    await make_lease(kubernetes, Clock()).acquire()
    sent = server.list_requests(f"POST {LEASES}")[0][0]["spec"]
    for field in ("acquireTime", "renewTime"):
        assert re.search(r"T00:00:00\.\d{6}", sent[field])


async def test_what_a_newer_server_says_of_a_lease_is_passed_over(server: Script, kubernetes: Kubernetes) -> None:
    newer = build_lease("")
    newer["spec"] |= {"invented": {"later": 1}}
    server.set_answers(f"GET {LEASES}/caravan-operator", (200, newer))
    server.set_answers(f"PUT {LEASES}/caravan-operator", (200, {}))
    assert await make_lease(kubernetes, Clock())._try_acquire()


async def test_a_lease_without_a_holder_is_taken(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"GET {LEASES}/caravan-operator", (200, {"metadata": {"name": "caravan-operator"}}))
    server.set_answers(f"PUT {LEASES}/caravan-operator", (200, {}))
    assert await make_lease(kubernetes, Clock())._try_acquire()


async def test_who_stops_leaves_the_lease_to_a_standby(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"GET {LEASES}/caravan-operator", (200, build_lease("me")))
    server.set_answers(f"PUT {LEASES}/caravan-operator", (200, {}))
    lease = make_lease(kubernetes, Clock())
    await lease.acquire()
    await lease.release()
    sent = server.list_requests(f"PUT {LEASES}/caravan-operator")[-1][0]["spec"]
    assert (sent["holderIdentity"], sent["leaseDurationSeconds"]) == ("", 1)
    with pytest.raises(LeaseLost):
        lease.ensure_held()


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
