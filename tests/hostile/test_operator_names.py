"""Names and patterns in resources that mean harm: none leaves its path, none is taken for another."""

import re
import time
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.reconcile import parse_desired
from caravan_operator.reconcile.admission import check_admission, validate_connection
from caravan_operator.reconcile.rabbitmq_binding import Binding
from caravan_operator.reconcile.rabbitmq_call import build_api_path
from caravan_operator.resources.names import UnusableSpec, build_identity
from caravan_operator.status.reasons import Reason
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.resources import make_resource


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ".."},
        {"name": "."},
        {"vhost": ".."},
        {"name": "é" * 200},
        {"name": 7},
        {"limits": {"messageTtl": 3}},
        {"arguments": {"x": 1}},
    ],
)
def test_a_resource_that_has_no_address_is_in_nobodys_way(spec: dict[str, Any]) -> None:
    bad = replace(make_resource("RabbitMQQueue", "bad"), spec={"connectionRef": {"name": "broker"}, **spec})
    with pytest.raises(UnusableSpec):
        parse_desired(bad)
    cache = ResourceCache()
    cache.put(bad)
    cache.put(make_resource("RabbitMQQueue", "good"))
    assert cache.list_conflicting(bad) == []
    assert len(cache) == 2
    cache.remove(bad.key)


@pytest.mark.parametrize("segment", ["", ".", "..", "\ud800"])
def test_no_segment_leaves_its_path(segment: str) -> None:
    with pytest.raises(UnusableSpec):
        build_api_path("queues", segment, "users")


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_path_has_as_many_segments_as_it_was_given_whatever_they_hold(vhost: str, name: str) -> None:
    """As the server reads it, after one decoding and after a second one that it shouldn't do."""
    try:
        made = build_api_path("queues", vhost, name)
    except UnusableSpec:
        return
    segments = made.removeprefix("/api/").split("/")
    assert [unquote(segment) for segment in segments] == ["queues", vhost, name]
    assert not {".", ".."} & {*segments, *(unquote(segment) for segment in segments)}
    assert not re.search(r"[?#\\\s]", made)


@pytest.mark.parametrize("segment", ["%2e%2e", "%2E", "..%2f..", "a/../b", "é%", "a?b#c", "日本:%"])
def test_what_is_quoted_already_stays_a_name(segment: str) -> None:
    assert unquote(build_api_path("queues", segment, "q").split("/")[3]) == segment
    assert len(build_api_path("queues", segment, "q").split("/")) == 5


@given(st.lists(st.sampled_from(["a", ":", "%", "%3A", "/"]), min_size=4, max_size=8).map("".join), st.data())
def test_different_names_never_share_an_identity(joined: str, data: st.DataObject) -> None:
    """One text cut into two names in two ways."""
    one, other = (data.draw(st.integers(1, len(joined) - 1)) for _ in range(2))
    same = build_identity("queue", joined[:one], joined[one:]) == build_identity(
        "queue", joined[:other], joined[other:]
    )
    assert same == (one == other)
    assert (
        build_identity("queue", joined.replace(":", "%3A"), "q") != build_identity("queue", joined, "q")
        or ":" not in joined
    )
    assert build_identity("queue", "a:b", "c") != build_identity("queue", "a", "b:c")


def test_bindings_are_distinguished_by_type_and_position_of_their_arguments() -> None:
    made = [
        Binding("/", "e", "q", arguments={"n": 1}),
        Binding("/", "e", "q", arguments={"n": "1"}),
        Binding("/", "e", "q", arguments={"a": "1,b=2"}),
        Binding("/", "e", "q", arguments={"a": "1", "b": "2"}),
        Binding("/", "e", "q:x", routing_key="y"),
        Binding("/", "e", "q", routing_key="x:y"),
    ]
    assert len({each.identity for each in made}) == len(made)


def test_a_pattern_that_python_would_never_finish_takes_no_time() -> None:
    resource = make_resource("KafkaConnection", "broker", protectedTopics=["^(a|a)*$", "(a*)*b", "(.*.*.*.*)*x"])
    started = time.process_time()
    assert check_admission(make_resource(topicName="a" * 240 + "!"), resource, None) is None
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "(((a{99}){99}){99})"])
def test_a_pattern_that_is_none_is_refused_by_field_and_nothing_is_touched(pattern: str) -> None:
    resource = make_resource("KafkaConnection", "broker", protectedTopics=["^__", pattern])
    for refused in (validate_connection(resource), check_admission(make_resource(topicName="orders"), resource, None)):
        assert refused is not None
        assert refused.reason is Reason.INVALID
        assert "spec.protectedTopics[1]" in refused.message
