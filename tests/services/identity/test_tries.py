"""Guessing passwords is slowed down, without locking the victim out."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.identity.model import AttemptCounter, build_counter
from services.identity.store import attempts
from tests.services.identity.conftest import PASSWORD, IdentityClient

FREE = 10
LONGEST = 30


async def test_guessing_is_delayed_from_there_and_the_owner_signs_in_from_elsewhere(identity: IdentityClient) -> None:
    person, attacker = await identity.person(), identity.elsewhere("203.0.113.7")
    answers = [await attacker.login(person.email, f"guess number {number}") for number in range(FREE + 1)]
    assert [answer.status_code for answer in answers] == [400] * FREE + [429]
    assert answers[-1].headers["retry-after"] == "1"
    right = await attacker.login(person.email, PASSWORD)
    assert right.status_code == 429, "while delayed even the right password is not looked at"
    assert (await identity.login(person.email)).status_code == 200


async def test_a_forged_forwarding_header_changes_nothing_and_a_gateways_is_believed(identity: IdentityClient) -> None:
    person, attacker = await identity.person(), identity.elsewhere("203.0.113.11")

    async def guess(by: IdentityClient, claimed: str) -> int:
        form = {"grant_type": "password", "username": person.email, "password": "not the password"}
        return (await by.client.post("/v1/auth/token", data=form, headers={"x-forwarded-for": claimed})).status_code

    assert [await guess(attacker, f"198.51.100.{number}") for number in range(FREE + 1)] == [400] * FREE + [429]
    gateway = identity.elsewhere("10.1.2.3")
    assert [await guess(gateway, f"198.51.100.{number}, 203.0.113.12") for number in range(FREE + 1)] == [
        400
    ] * FREE + [429]
    assert await guess(gateway, "203.0.113.13") == 400, "the gateway's other clients are not held up"


async def test_many_guesses_at_the_same_moment_get_no_more_than_the_free_tries(identity: IdentityClient) -> None:
    person, attacker = await identity.person(), identity.elsewhere("203.0.113.8")
    answers = await asyncio.gather(*(attacker.login(person.email, f"guess number {number}") for number in range(40)))
    assert sum(answer.status_code == 400 for answer in answers) <= FREE
    assert {answer.status_code for answer in answers} == {400, 429}


async def test_an_unknown_account_is_delayed_like_a_known_one(identity: IdentityClient) -> None:
    attacker, email = identity.elsewhere("203.0.113.9"), f"{uuid4().hex}@example.com"
    statuses = [(await attacker.login(email, f"guess number {number}")).status_code for number in range(FREE + 1)]
    assert statuses == [400] * FREE + [429]


async def test_spraying_one_password_over_many_accounts_is_delayed_for_the_whole_network(
    identity: IdentityClient,
) -> None:
    attacker, neighbour = identity.elsewhere("2001:db8::1"), identity.elsewhere("2001:db8::ffff")
    statuses = {(await attacker.login(f"{uuid4().hex}@example.com", "Password123")).status_code for _ in range(50)}
    assert statuses == {400}
    assert (await neighbour.login(f"{uuid4().hex}@example.com", "Password123")).status_code == 429


async def use_up(identity: IdentityClient, *counters: AttemptCounter, times: int = 200) -> None:
    """As if somebody had failed so often, by now."""
    context = identity.shop.get_context("identity")
    for _ in range(times):
        await attempts.count_attempt(context.database, counters, context.clock(), 0)


async def test_a_botnet_is_delayed_but_not_the_owner_wherever(identity: IdentityClient) -> None:
    person, bot = await identity.person(), identity.elsewhere("198.51.100.77")
    assert (await bot.login(person.email, "guess number 1")).status_code == 400
    await use_up(identity, build_counter("account", person.email, free_attempts=100))
    delayed = await bot.login(person.email)
    assert delayed.status_code == 429
    assert 1 <= int(delayed.headers["retry-after"]) <= LONGEST
    assert (await identity.login(person.email)).status_code == 200, "from a known address"
    assert (await identity.elsewhere("198.51.100.78").login(person.email)).status_code == 200, (
        "a first try from elsewhere"
    )


async def test_wrong_passwords_from_an_address_hold_up_nobody_who_is_known_there(identity: IdentityClient) -> None:
    """Everybody behind one address, as in an office or behind a proxy that was not declared."""
    office = identity.elsewhere("203.0.113.20")
    signed_in, registered = await office.person(), (await office.register()).json()["email"]
    await use_up(identity, build_counter("address", "203.0.113.20", free_attempts=50))
    stranger = await office.login(f"{uuid4().hex}@example.com")
    assert stranger.status_code == 429
    assert 1 <= int(stranger.headers["retry-after"]) <= LONGEST
    for email in (signed_in.email, registered):
        assert (await IdentityClient(identity.shop, office.fresh()).login(email)).status_code == 200


async def test_a_device_that_signed_in_before_is_not_held_up_by_others_at_its_address(identity: IdentityClient) -> None:
    owner = identity.elsewhere("203.0.113.21")
    person = await owner.person()
    cookie = next(iter(owner.client.cookies.jar))
    assert cookie.path == "/v1/auth"
    assert cookie.has_nonstandard_attr("HttpOnly")
    other = IdentityClient(identity.shop, owner.fresh())
    statuses = [(await other.login(person.email, f"guess number {number}")).status_code for number in range(FREE + 1)]
    assert statuses == [400] * FREE + [429]
    assert (await owner.login(person.email)).status_code == 200
    statuses = [(await owner.login(person.email, f"guess number {number}")).status_code for number in range(FREE + 1)]
    assert statuses == [400] * FREE + [429], "a device that was stolen guesses no faster"


async def test_a_cookie_of_another_account_or_a_forged_one_makes_no_device_known(identity: IdentityClient) -> None:
    thief, person = identity.elsewhere("203.0.113.22"), await identity.person()
    await thief.person()
    kept = next(iter(thief.client.cookies.jar)).value
    assert kept
    await use_up(identity, build_counter("pair", person.email, "203.0.113.22", free_attempts=FREE))
    for value in (kept, kept[:-2] + "AA", "x", ""):
        form = {"grant_type": "password", "username": person.email, "password": PASSWORD}
        answer = await IdentityClient(identity.shop, thief.fresh()).client.post(
            "/v1/auth/token", data=form, headers={"cookie": f"caravan-device={value}"}
        )
        assert answer.status_code == 429


async def test_nobody_elses_tries_hold_up_who_is_signed_in_and_changes_the_password(identity: IdentityClient) -> None:
    person = await identity.person()
    await use_up(
        identity,
        build_counter("pair", person.email, "127.0.0.1", free_attempts=FREE),
        build_counter("account", person.email, free_attempts=100),
    )
    change = {"current_password": PASSWORD, "new_password": "thirteen camels at dawn"}
    assert (await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)).status_code == 204


async def test_delays_double_up_to_the_longest_and_an_hours_rest_takes_them_away(identity: IdentityClient) -> None:
    database, guessed = identity.shop.get_database("identity"), build_counter("pair", uuid4().hex, free_attempts=2)
    now, waits = datetime(2030, 1, 1, tzinfo=UTC), []
    for _ in range(12):
        assert await attempts.count_attempt(database, [guessed], now, LONGEST) == 0
        wait = await attempts.count_attempt(database, [guessed], now, LONGEST)
        waits.append(wait)
        if not wait:
            waits.append(await attempts.count_attempt(database, [guessed], now, LONGEST))
        now += timedelta(seconds=waits[-1])
    assert waits == [0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30]
    now += timedelta(hours=4)
    assert [await attempts.count_attempt(database, [guessed], now, LONGEST) for _ in range(3)] == [0, 0, 1]


Steps = st.lists(
    st.tuples(st.integers(0, 2), st.just(0.0) | st.floats(0, 20) | st.floats(0, 4000), st.booleans()),
    min_size=20,
    max_size=60,
)


@given(steps=Steps)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whoever_waits_as_long_as_told_is_let_in_and_guessing_stays_slow(
    identity: IdentityClient, steps: list[tuple[int, float, bool]]
) -> None:
    """Whatever was tried before and how the time went: no wait is longer than the longest, and within an hour few tries
    are taken.
    """
    database, mark = identity.shop.get_database("identity"), uuid4().hex
    counters = [
        build_counter("pair", mark, free_attempts=3),
        build_counter("address", mark, free_attempts=5),
        build_counter("account", mark, free_attempts=8),
    ]
    now, taken = datetime(2030, 1, 1, tzinfo=UTC), []
    for place, seconds, patient in steps:
        now += timedelta(seconds=seconds)
        mine = [counters[place], *counters[place + 1 :]]
        wait = await attempts.count_attempt(database, mine, now, LONGEST)
        assert 0 <= wait <= LONGEST
        if wait and patient:
            now += timedelta(seconds=wait)
            assert await attempts.count_attempt(database, mine, now, LONGEST) == 0
            wait = 0
        if not wait:
            taken.append(now)
    for start in taken:
        within = [at for at in taken if start <= at <= start + timedelta(seconds=20)]
        assert len(within) <= 8 + 5, "the free ones, and what fits between delays of 1, 2, 4, 8, 16"


async def test_asking_who_has_an_account_by_registering_is_delayed(identity: IdentityClient) -> None:
    person, curious = await identity.person(), identity.elsewhere("203.0.113.10")
    statuses = [(await curious.register(person.email)).status_code for _ in range(21)]
    assert statuses == [409] * 20 + [429]
    assert (await curious.register()).status_code == 429
    assert (await identity.register()).status_code == 201
