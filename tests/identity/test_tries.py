"""Guessing passwords is slowed down, without locking the victim out."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from services.identity.model import counter
from services.identity.store import attempts
from tests.identity.conftest import PASSWORD, Door

FREE = 10


async def test_guessing_is_delayed_from_there_and_the_owner_signs_in_from_elsewhere(door: Door) -> None:
    person, attacker = await door.person(), door.elsewhere("203.0.113.7")
    answers = [await attacker.login(person.email, f"guess number {number}") for number in range(FREE + 1)]
    assert [answer.status_code for answer in answers] == [400] * FREE + [429]
    assert answers[-1].headers["retry-after"] == "1"
    right = await attacker.login(person.email, PASSWORD)
    assert right.status_code == 429, "while delayed even the right password is not looked at"
    assert (await door.login(person.email)).status_code == 200


async def test_a_forged_forwarding_header_changes_nothing_and_a_gateways_is_believed(door: Door) -> None:
    person, attacker = await door.person(), door.elsewhere("203.0.113.11")

    async def guess(by: Door, claimed: str) -> int:
        form = {"grant_type": "password", "username": person.email, "password": "not the password"}
        return (await by.client.post("/v1/auth/token", data=form, headers={"x-forwarded-for": claimed})).status_code

    assert [await guess(attacker, f"198.51.100.{number}") for number in range(FREE + 1)] == [400] * FREE + [429]
    gateway = door.elsewhere("10.1.2.3")
    assert [await guess(gateway, f"198.51.100.{number}, 203.0.113.12") for number in range(FREE + 1)] == [400] * FREE + [429]
    assert await guess(gateway, "203.0.113.13") == 400, "the gateway's other clients are not held up"


async def test_many_guesses_at_the_same_moment_get_no_more_than_the_free_tries(door: Door) -> None:
    person, attacker = await door.person(), door.elsewhere("203.0.113.8")
    answers = await asyncio.gather(*(attacker.login(person.email, f"guess number {number}") for number in range(40)))
    assert sum(answer.status_code == 400 for answer in answers) <= FREE
    assert {answer.status_code for answer in answers} == {400, 429}


async def test_an_unknown_account_is_delayed_like_a_known_one(door: Door) -> None:
    attacker, email = door.elsewhere("203.0.113.9"), f"{uuid4().hex}@example.com"
    statuses = [(await attacker.login(email, f"guess number {number}")).status_code for number in range(FREE + 1)]
    assert statuses == [400] * FREE + [429]


async def test_spraying_one_password_over_many_accounts_is_delayed_for_the_whole_network(door: Door) -> None:
    attacker, neighbour = door.elsewhere("2001:db8::1"), door.elsewhere("2001:db8::ffff")
    statuses = {(await attacker.login(f"{uuid4().hex}@example.com", "Password123")).status_code for _ in range(50)}
    assert statuses == {400}
    assert (await neighbour.login(f"{uuid4().hex}@example.com", "Password123")).status_code == 429


async def test_a_botnet_is_delayed_but_not_the_owner_from_a_known_address(door: Door) -> None:
    person = await door.person()
    database, now = door.shop.database("identity"), datetime.now(UTC)
    async with database.work() as work:
        for _ in range(100):
            await attempts.count(work, [counter("account", person.email, free=0)], now)
    assert (await door.elsewhere("198.51.100.77").login(person.email)).status_code == 429
    assert (await door.login(person.email)).status_code == 200


async def test_delays_double_up_to_a_quarter_of_an_hour_and_an_hour_forgives(door: Door) -> None:
    database, guessed = door.shop.database("identity"), counter("pair", uuid4().hex, free=2)
    now, waits = datetime(2030, 1, 1, tzinfo=UTC), []
    for _ in range(16):
        assert await attempts.take(database, guessed, now)
        seconds = await attempts.seconds_to_wait(database, [guessed], now)
        waits.append(seconds)
        if seconds:
            assert not await attempts.take(database, guessed, now + timedelta(seconds=seconds - 0.5))
        now += timedelta(seconds=seconds)
    assert waits == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900, 900]
    now += timedelta(hours=2)
    assert await attempts.seconds_to_wait(database, [guessed], now) == 0
    assert [await attempts.take(database, guessed, now) for _ in range(3)] == [True, True, False]


async def test_asking_who_has_an_account_by_registering_is_delayed(door: Door) -> None:
    person, curious = await door.person(), door.elsewhere("203.0.113.10")
    statuses = [(await curious.register(person.email)).status_code for _ in range(21)]
    assert statuses == [409] * 20 + [429]
    assert (await curious.register()).status_code == 429
    assert (await door.register()).status_code == 201
