"""Which of the endpoints of a routing snapshot a request goes to, and which are left out."""

import contextlib
from collections import Counter

import pytest

from tests.services.gateway.snapshot_case import SnapshotCase
from tests.services.gateway.snapshots import DRAINING, endpoint
from tests.support.shop import wait_until


async def test_requests_spread_over_ready_endpoints_and_none_goes_to_one_that_is_not(
    snapshot_case: SnapshotCase,
) -> None:
    assert await snapshot_case.spread(30) == [10, 10, 10]
    unready = {"ready": False, "serving": False, "terminating": False}
    await snapshot_case.put(
        {
            "pets": [
                endpoint(snapshot_case.urls[0]),
                endpoint(snapshot_case.urls[1], **unready),
                endpoint(snapshot_case.urls[2]),
            ]
        }
    )
    first, second, third = await snapshot_case.spread(30)
    assert second == 0
    assert first + third == 30
    assert min(first, third) >= 14


async def test_an_endpoint_that_drains_ends_what_it_has_begun_and_gets_nothing_new(snapshot_case: SnapshotCase) -> None:
    await snapshot_case.put({"pets": [endpoint(snapshot_case.urls[0])]})
    async with snapshot_case.client.stream("GET", "/v1/pets/rex/song") as answer:
        parts = answer.aiter_raw()
        assert await anext(parts) == b"first"
        both = [endpoint(snapshot_case.urls[0], **DRAINING), endpoint(snapshot_case.urls[1])]
        await snapshot_case.put({"pets": {"endpoints": both, "loadBalancing": "RoundRobin"}})
        assert await snapshot_case.spread(10) == [0, 10, 0]
        await snapshot_case.put({"pets": [endpoint(snapshot_case.urls[1])]})  # and even when it is gone from the list
        snapshot_case.replicas[0].released.set()
        assert b"".join([part async for part in parts]) == b"last"


async def test_where_all_endpoints_are_leaving_those_that_still_serve_are_used(snapshot_case: SnapshotCase) -> None:
    await snapshot_case.put({"pets": [endpoint(snapshot_case.urls[0], **DRAINING)]})
    assert await snapshot_case.spread(3) == [3, 0, 0]
    await snapshot_case.put({"pets": []})
    answer = await snapshot_case.client.get("/v1/pets/rex")
    assert answer.status_code == 503
    assert "pets" in answer.json()["detail"]
    assert "retry-after" in answer.headers


async def test_an_endpoint_that_fails_in_a_row_is_left_out_and_comes_back_when_it_is_sound(
    snapshot_case: SnapshotCase,
) -> None:
    breaker = {"consecutiveFailures": 3, "openFor": 60.0, "halfOpenProbes": 1, "maxEjectionPercent": 50}
    entry = {
        "endpoints": [endpoint(url) for url in snapshot_case.urls],
        "circuitBreaker": breaker,
        "retry": {"attempts": 2, "codes": [503]},
    }
    await snapshot_case.put({"pets": entry})
    snapshot_case.replicas[0].failing = True
    statuses = Counter([(await snapshot_case.client.get("/v1/pets/rex")).status_code for _ in range(40)])
    assert statuses == {200: 40}, "what one endpoint refuses another answers"
    assert snapshot_case.replicas[0].asked == 3
    assert 'caravan_endpoint_ejections_total{target="pets"}' in (await snapshot_case.client.get("/metrics")).text
    snapshot_case.replicas[0].failing = False
    await snapshot_case.put(
        {"pets": {**entry, "circuitBreaker": {**breaker, "openFor": 0.01}}}
    )  # the settings of a breaker that is open change, too

    async def back() -> bool:
        return min(await snapshot_case.spread(6)) > 0

    await wait_until(back)


async def test_not_more_endpoints_are_left_out_than_the_service_allows(snapshot_case: SnapshotCase) -> None:
    breaker = {"consecutiveFailures": 5, "openFor": 30.0, "maxEjectionPercent": 34, "minRequests": 1000}
    await snapshot_case.put(
        {
            "pets": {
                "endpoints": [endpoint(url) for url in snapshot_case.urls],
                "circuitBreaker": breaker,
                "retry": {"attempts": 0},
            }
        }
    )
    snapshot_case.replicas[0].failing = snapshot_case.replicas[1].failing = True
    for _ in range(45):
        await snapshot_case.client.get("/v1/pets/rex")
    asked = [pets.asked for pets in snapshot_case.replicas]
    assert sorted(asked[:2])[0] == 5 and sorted(asked[:2])[1] >= 15, (
        f"one of the two that fail is out, not both: {asked}"
    )


async def test_a_write_that_reached_nobody_goes_to_another_endpoint(
    snapshot_case: SnapshotCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caravan.discovery.endpoints.UNREACHED_SECONDS", 0.0)
    nobody = endpoint("http://127.0.0.1:9")
    for unsent, expected in ((True, {200}), (False, {200, 503})):
        await snapshot_case.put({})
        await snapshot_case.put(
            {
                "pets": {
                    "endpoints": [nobody, endpoint(snapshot_case.urls[0])],
                    "retry": {"attempts": 1, "unsent": unsent},
                }
            }
        )
        await snapshot_case.routed()
        answers = [await snapshot_case.client.post("/v1/pets", content=b"x") for _ in range(8)]
        assert {answer.status_code for answer in answers} == expected, [
            answer.json().get("detail") for answer in answers
        ]


async def test_a_slow_endpoint_is_given_up(snapshot_case: SnapshotCase) -> None:
    await snapshot_case.put(
        {"pets": {"endpoints": [endpoint(snapshot_case.urls[0])], "timeouts": {"backendRequest": 0.1, "request": 0.15}}}
    )
    assert (await snapshot_case.client.get("/v1/pets/rex/sleep")).status_code == 503


async def test_a_service_with_as_much_in_hand_as_it_may_have_gets_no_more(snapshot_case: SnapshotCase) -> None:
    await snapshot_case.put({"pets": {"endpoints": [endpoint(snapshot_case.urls[0])], "limits": {"maxInFlight": 2}}})
    async with contextlib.AsyncExitStack() as stack:
        answers = [
            await stack.enter_async_context(snapshot_case.client.stream("GET", "/v1/pets/rex/song")) for _ in range(3)
        ]
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) <= 2
        assert statuses[-1] == 503
        assert b"limit" in await answers[-1].aread()
