"""Whatever happens in whatever order, no reader gets what was replaced more than a second before it asked."""

import pytest

from caravan.cache.server import SCRIPT
from caravan.runtime import Backends
from tests.caravan.cache.simulation import Interleaving, run_interleavings

FENCE = "is_fenced = is_fenced or tonumber(stamps[index]) >= made_at"
MADE_AT = "'made_at', started,"
BUGS = {
    "no fence: made when it is stored": (
        (FENCE, ""),
        (MADE_AT, "'made_at', string.format('%.0f', tick()),"),
    ),
    "no epoch: a restarted server's entries count": (("if ARGV[4] == '1' or not epoch then", "if not epoch then"),),
    "moments of a clock that is set back": (
        ("math.max(now, (tonumber(redis.call('HGET', META, 'clock') or '0')) + 1)", "now"),
    ),
    "an invalidation that writes no stamp": (
        ("redis.call('SET', key, stamp", "redis.call('SET', 'cache:tag:', stamp"),
    ),
}


def check_all(interleavings: list[Interleaving]) -> None:
    assert {each.seed: each.stale for each in interleavings if each.stale} == {}
    reads, hits = sum(each.reads for each in interleavings), sum(each.hits for each in interleavings)
    assert hits > reads / 4, "a cache that never hits is never stale"


def test_nothing_is_stale_in_any_of_500_interleavings(servers: Backends) -> None:
    check_all(run_interleavings(servers.redis_url, range(500)))


@pytest.mark.slow
def test_nothing_is_stale_in_any_of_10000_more(servers: Backends) -> None:
    check_all(run_interleavings(servers.redis_url, range(500, 10_500)))


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(servers: Backends, bug: str) -> None:
    script = SCRIPT
    for text, replacement in BUGS[bug]:
        assert text in script
        script = script.replace(text, replacement)
    for first in range(0, 1000, 50):
        if any(each.stale for each in run_interleavings(servers.redis_url, range(first, first + 50), script)):
            return
    pytest.fail("not in 1,000 interleavings")
