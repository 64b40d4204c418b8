"""Signing keys come and go without a moment at which a good token is refused."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from caravan.auth import TokenVerifier
from caravan.clock import utc_now
from caravan.runtime import Backends
from services.identity.client import KeySetRequest
from services.identity.model import KeySchedule, RefreshToken, SigningKey, extract_network
from services.identity.providers.crypto import generate_key, seal_key, unseal_key
from services.identity.use_cases.keys import get_key_set, issue_access_token, open_resources, rotate_keys
from tests.services.identity.conftest import cheap_hashes
from tests.support.shop import run_services

SCHEDULE = KeySchedule(rotation=timedelta(days=30), lead=timedelta(minutes=15), token_life=timedelta(minutes=10))
START = datetime(2030, 1, 1, tzinfo=UTC)


STEPS = st.integers(min_value=1, max_value=20) | st.integers(min_value=1, max_value=40 * 24 * 60)


@given(st.lists(STEPS, min_size=1, max_size=60))
def test_each_key_is_published_a_lead_before_it_signs_and_until_its_last_token_has_expired(minutes: list[int]) -> None:
    """However irregularly the clockwork runs: a token is signed and the schedule turned at each of these moments."""
    now, keys, made = START, [SigningKey("0", START, {})], {"0": START - timedelta(days=1)}
    tokens: list[tuple[str, datetime]] = []
    for step in minutes:
        now += timedelta(minutes=step)
        signing = SCHEDULE.choose_signing_key(keys, now)
        assert signing.signs_from <= now
        assert made[signing.kid] + SCHEDULE.lead <= now
        tokens.append((signing.kid, now + SCHEDULE.token_life))
        gone = SCHEDULE.list_retired_kids(keys, now)
        keys = [key for key in keys if key.kid not in gone]
        signs_from = SCHEDULE.compute_next_signs_from(keys, now)
        if signs_from is not None:
            keys.append(SigningKey(str(len(made)), signs_from, {}))
            made[keys[-1].kid] = now
        known = {key.kid for key in keys}
        assert all(kid in known for kid, expires in tokens if expires > now)
        assert len(keys) <= 3
        assert SCHEDULE.compute_next_signs_from(keys, now) is None


@given(st.uuids(), st.integers(min_value=0, max_value=2**32 - 1), st.binary(min_size=32, max_size=32), st.data())
def test_a_refresh_token_is_read_as_written_and_no_altered_one_is(
    session: Any, generation: int, key: bytes, data: st.DataObject
) -> None:
    token = RefreshToken(session, generation)
    text = token.encode(key)
    assert RefreshToken.decode(text, key) == token
    assert RefreshToken.decode(text, bytes(byte ^ 1 for byte in key)) is None
    place = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    altered = text[:place] + data.draw(st.characters().filter(lambda c: c != text[place])) + text[place + 1 :]
    assert RefreshToken.decode(altered, key) in (None, token)  # the last character of base64 has bits that mean nothing


@given(st.text(max_size=100))
def test_no_text_breaks_the_reader_of_refresh_tokens(text: str) -> None:
    assert RefreshToken.decode(text, b"k" * 32) is None


def test_a_network_is_an_ipv4_address_or_64_bits_of_an_ipv6_one() -> None:
    assert extract_network("203.0.113.7") == extract_network("::ffff:203.0.113.7") == "203.0.113.7"
    assert extract_network("2001:db8:1:2:3::4") == extract_network("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert extract_network("2001:db8:1:3::") != extract_network("2001:db8:1:2::")
    assert extract_network(None) == extract_network("testclient") == extract_network("") == "unknown"


def test_a_sealed_key_opens_with_its_secret_under_its_own_id_only() -> None:
    key, secret = generate_key("a"), b"s" * 32
    sealed = seal_key(key, "a", secret)
    opened = unseal_key(sealed, "a", secret)
    assert opened is not None
    assert opened.as_dict(private=True)["d"] == key.as_dict(private=True)["d"]
    assert unseal_key(sealed, "b", secret) is None
    assert unseal_key(sealed, "a", b"t" * 32) is None


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


async def test_rotation_refuses_no_good_token_on_any_replica(backends: Backends) -> None:
    patch, clock = cheap_hashes(), Clock()
    try:
        async with run_services(backends, "identity", clock=clock) as shop:
            context = shop.get_context("identity")

            def token() -> str:
                return issue_access_token(context, subject="somebody", role="customer", session="s")

            async def keys(_: str) -> dict[str, Any]:
                return (await get_key_set(context, KeySetRequest())).model_dump()

            def kids() -> set[str]:
                return {key.kid for key in context.resources.keys}

            first, before = token(), kids()
            clock.ahead += timedelta(days=30)
            await rotate_keys(context)
            (after,) = kids() - before
            assert SCHEDULE.choose_signing_key(context.resources.keys, clock()).kid != after, (
                "published, and not signing yet"
            )
            cautious = TokenVerifier(keys)
            await cautious.verify(first)
            clock.ahead += timedelta(minutes=16)
            second = token()
            cautious_asked = cautious._fetched_at
            assert (await cautious.verify(second)).subject == "somebody"
            assert cautious._fetched_at == cautious_asked
            await rotate_keys(context)
            assert before <= kids(), "tokens of the old key live on for ten minutes"
            assert (await TokenVerifier(keys).verify(first)).subject == "somebody"
            clock.ahead += timedelta(minutes=30)
            await rotate_keys(context)
            assert kids() == {after}
    finally:
        patch.undo()


async def test_replicas_that_start_together_make_one_key_and_a_lost_secret_makes_a_new_one(backends: Backends) -> None:
    patch = cheap_hashes()
    try:
        async with run_services(backends, "identity") as shop:
            context = shop.get_context("identity")
            await context.database.fetch("DELETE FROM signing_key")

            async def start(secret: str) -> list[str]:
                replica = dataclasses.replace(context, secret=secret)
                async with open_resources(replica) as parts:
                    token = issue_access_token(replica, subject="somebody", role="customer", session="s")
                    assert (await TokenVerifier(lambda _: _keys(replica)).verify(token)).subject == "somebody"
                    return [key.kid for key in parts.keys]

            made = await asyncio.gather(*(start(context.secret) for _ in range(4)))
            assert len({tuple(kids) for kids in made}) == 1
            assert len(made[0]) == 1
            assert (await start("another secret"))[0] == made[0][0]
            await context.database.fetch("DELETE FROM signing_key")
    finally:
        patch.undo()


async def _keys(context: Any) -> dict[str, Any]:
    return (await get_key_set(context, KeySetRequest())).model_dump()
