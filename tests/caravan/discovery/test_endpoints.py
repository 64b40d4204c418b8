"""Which endpoint the next request goes to, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.discovery import EndpointPool, Policy
from caravan.errors import ServiceUnavailable

URLS = ["http://a", "http://b", "http://c"]


def pool(urls: list[str] = URLS, **policy: object) -> EndpointPool:
    made = EndpointPool("pets", lambda: 100.0)
    made.update_endpoints(urls, Policy.model_validate(policy))
    return made


def test_the_endpoint_with_the_fewest_requests_open_is_next_and_equals_take_turns() -> None:
    made = pool()
    assert {made.acquire().url for _ in range(3)} == set(URLS)
    busy = [made.acquire() for _ in range(2)]
    assert made.acquire().url not in {each.url for each in busy}
    busy[0].release(has_failed=False)
    assert made.acquire() is busy[0]


def test_in_turn_it_does_not_matter_what_is_open() -> None:
    made = pool(load_balancing="RoundRobin")
    taken = [made.acquire().url for _ in range(6)]
    assert taken[:3] == taken[3:]
    assert set(taken) == set(URLS)


def test_what_was_tried_comes_last_and_only_when_there_is_nothing_else() -> None:
    made = pool(URLS[:2])
    assert {made.acquire({"http://a"}).url for _ in range(3)} == {"http://b"}
    assert made.acquire({"http://a", "http://b"}).url in URLS


def test_over_the_limit_or_without_an_endpoint_nothing_is_given_out() -> None:
    made = pool(limits={"max_in_flight": 2})
    first, _ = made.acquire(), made.acquire()
    with pytest.raises(ServiceUnavailable, match="limit"):
        made.acquire()
    first.release(has_failed=None)
    assert made.acquire()
    with pytest.raises(ServiceUnavailable, match="ready"):
        pool([]).acquire()


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80), st.integers(1, 5), st.integers(0, 100))
def test_never_more_are_left_out_than_may_be(outcomes: list[tuple[int, bool]], count: int, percent: int) -> None:
    rules = {"consecutive_failures": 2, "max_ejection_percent": percent}
    made = pool([f"http://{n}" for n in range(count)], circuit_breaker=rules)
    broken = {f"http://{n}" for n, fails in outcomes if fails}
    for _ in outcomes:
        try:
            endpoint = made.acquire()
        except ServiceUnavailable:
            assert percent == 100, "all are out"
            break
        endpoint.release(has_failed=endpoint.url in broken)
    out = [endpoint for endpoint in made._endpoints.values() if endpoint.breaker.state != "closed"]
    assert len(out) <= count * percent // 100
    assert all(endpoint.in_flight == 0 for endpoint in made._endpoints.values())
