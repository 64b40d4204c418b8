"""A routing snapshot is taken whole or refused with the field and the rule; its revision is the hash of its content."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from caravan.discovery.routing_snapshot import (
    MAX_BYTES,
    EndpointEntry,
    Path,
    Policy,
    SnapshotError,
    compute_revision,
    parse_snapshot,
)
from tests.services.gateway.snapshots import READY, document, endpoint, route

PETS = {"pets": [endpoint("http://10.0.0.1:8080")]}


def test_a_sound_document_is_read_with_defaults_and_what_a_newer_operator_adds_is_ignored() -> None:
    entry = {"endpoints": [{**endpoint("http://10.0.0.1:8080"), "zone": "a"}], "timeouts": {"connect": 0.5}, "new": 1}
    snapshot = parse_snapshot(document(7, {"pets": entry}, [route("pets", pathPrefix="/pets")], added={"x": 1}))
    assert (snapshot.sequence, snapshot.routes[0].auth) == (7, "Optional")
    pets = snapshot.services["pets"]
    assert [each.url for each in pets.endpoints] == ["http://10.0.0.1:8080"]
    assert (pets.timeouts.connect, pets.retry, pets.circuit_breaker) == (
        0.5,
        Policy().retry,
        Policy().circuit_breaker,
    )


def spoil(**changes: Any) -> bytes:
    """A document with another content whose revision fits."""
    content = {**json.loads(document(1, PETS)), **changes}
    return json.dumps({**content, "revision": compute_revision(content)}).encode()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "schema"),
        (spoil(schema="routing.caravan.dev/v2"), "schema"),
        (document(1, PETS).replace(b"10.0.0.1", b"10.0.0.2"), "revision"),
        (b'{"schema": "routing.caravan.dev/v1", "gateway": "\\ud800"}', "not JSON"),
        (spoil(sequence=0), "sequence"),
        (b" " * (MAX_BYTES + 1), f"at most {MAX_BYTES}"),
        (document(1, {"pets": [{**READY, "address": "pets.local", "port": 80}]}), "services.pets.endpoints.0.address"),
        (document(1, {"pets": [{**READY, "address": "10.0.0.1", "port": 65536}]}), "services.pets.endpoints.0.port"),
        (document(1, {"pets": {"timeouts": {"connect": 0}}}), "services.pets.timeouts.connect"),
        (document(1, PETS, [route("cats", pathPrefix="/c")]), "leads to cats"),
        (document(1, PETS, [route("pets", pathPrefix="/a", pathExact="/b")]), "exactly one of"),
        (document(1, PETS, [route("pets", pathExact="/b", rewritePrefix="/a")]), "rewritePrefix goes with"),
        (document(1, PETS, [route("pets", pathPrefix="/a", methods=["TRACE"])]), "routes.0.methods"),
    ],
)
def test_what_is_not_sound_is_refused_with_the_field_and_the_rule(raw: bytes, says: str) -> None:
    with pytest.raises(SnapshotError, match=says):
        parse_snapshot(raw)


@given(st.text("ab./%2e\\? é", max_size=12).map("/".__add__))
def test_a_path_has_no_empty_or_dot_segment_and_nothing_that_is_read_in_two_ways(path: str) -> None:
    segments = path.split("/")[1:]
    is_sound = path == "/" or all(
        segment not in ("", ".", "..") and not set(segment) & set("%\\? é") for segment in segments
    )
    try:
        TypeAdapter(Path).validate_python(path)
    except ValidationError:
        assert not is_sound
    else:
        assert is_sound


@pytest.mark.parametrize(("address", "url"), [("10.0.0.1", "http://10.0.0.1:80"), ("fd00::1", "http://[fd00::1]:80")])
def test_an_endpoints_url_has_brackets_around_an_address_of_ipv6(address: str, url: str) -> None:
    assert EndpointEntry(address=address, port=80, ready=True, serving=True, terminating=False).url == url


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", max_size=3), JSON, max_size=4), st.integers(), st.randoms())
def test_the_revision_is_of_the_content_alone_in_whatever_order(
    content: dict[str, Any], sequence: int, rng: Any
) -> None:
    names = list(content)
    rng.shuffle(names)
    shuffled = {"sequence": sequence, **{name: content[name] for name in names}, "revision": "x"}
    assert compute_revision(shuffled) == compute_revision(content)
    assert compute_revision({**content, "new": 1}) != compute_revision(content)
