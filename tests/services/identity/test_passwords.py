"""Changing and resetting a password: what ends, what is mailed, and what can't be found out."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from services.identity.model import compute_fingerprint
from services.identity.providers.crypto import PasswordHasher
from services.identity.settings import Settings
from services.identity.store import accounts, resets
from tests.services.identity.conftest import PASSWORD, IdentityClient
from tests.support.shop import wait_until

NEW = "thirteen camels at dawn"


async def reset_token(identity: IdentityClient, email: str, mails: int = 1) -> str:
    await identity.client.post("/v1/auth/password-reset", json={"email": email})

    async def arrived() -> str:
        found = await identity.mails(email, "password_reset")
        assert len(found) == mails
        link: str = found[-1]["values"]["link"]
        return link.partition("?token=")[2]

    return await wait_until(arrived)


async def test_a_change_ends_the_other_sessions_and_mails_the_owner(identity: IdentityClient) -> None:
    person = await identity.person()
    other = await identity.sign_in(person)
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)).status_code == 204
    assert (await identity.me(person.access)).status_code == 200
    assert (await identity.me(other.access)).status_code == 401
    assert (await identity.refresh(other.refresh)).status_code == 400
    assert (await identity.login(person.email)).status_code == 400
    assert (await identity.login(person.email, NEW)).status_code == 200
    mails = await wait_until(lambda: identity.mails(person.email, "password_changed"))
    assert len(mails) == 1
    assert mails[0]["user_id"] == str(person.id)
    assert PASSWORD not in str(mails)
    assert NEW not in str(mails)


async def test_a_change_needs_the_current_password(identity: IdentityClient) -> None:
    person = await identity.person()
    for given, new in (("wrong one entirely", NEW), (PASSWORD, "short"), (PASSWORD, person.email)):
        change = {"current_password": given, "new_password": new}
        assert (
            await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)
        ).status_code == 422
    assert (await identity.login(person.email)).status_code == 200


async def test_of_two_changes_at_the_same_moment_one_wins(identity: IdentityClient) -> None:
    person = await identity.person()

    async def change(new: str) -> int:
        body = {"current_password": PASSWORD, "new_password": new}
        return (await identity.client.post("/v1/users/me/password", json=body, headers=person.bearer)).status_code

    assert sorted(await asyncio.gather(change(NEW), change(NEW + " again"))) in ([204, 409], [204, 422])


async def test_a_sign_in_with_the_old_password_can_not_slip_past_the_change(identity: IdentityClient) -> None:
    """The session is opened only while the verified password is still the user's."""
    person = await identity.person()
    hasher: PasswordHasher = identity.shop.get_context("identity").resources.hasher
    verified, go_on = asyncio.Event(), asyncio.Event()
    verify = hasher.verify_password

    async def slow(password: str, hashed: str | None) -> tuple[bool, str | None]:
        answer = await verify(password, hashed)
        verified.set()
        await go_on.wait()
        return answer

    hasher.verify_password = slow  # type: ignore[method-assign]
    try:
        login = asyncio.create_task(identity.login(person.email))
        await verified.wait()
    finally:
        del hasher.verify_password
    change = {"current_password": PASSWORD, "new_password": NEW}
    (await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)).raise_for_status()
    go_on.set()
    assert (await login).status_code == 400


async def test_a_reset_link_works_once_ends_all_sessions_and_is_stored_as_a_fingerprint(
    identity: IdentityClient,
) -> None:
    person = await identity.person()
    earlier, token = await reset_token(identity, person.email), await reset_token(identity, person.email, mails=2)
    stored = await identity.shop.get_database("identity").fetch("SELECT encode(fingerprint, 'escape') FROM reset_link")
    assert not any(token in row[0] for row in stored)
    confirm = "/v1/auth/password-reset/confirm"
    answers = await asyncio.gather(
        *(identity.client.post(confirm, json={"token": token, "password": NEW}) for _ in range(3))
    )
    assert sorted(answer.status_code for answer in answers) == [204, 400, 400]
    assert (await identity.client.post(confirm, json={"token": earlier, "password": NEW})).status_code == 400
    assert (await identity.me(person.access)).status_code == 401
    assert (await identity.refresh(person.refresh)).status_code == 400
    assert (await identity.login(person.email, NEW)).status_code == 200
    assert len(await wait_until(lambda: identity.mails(person.email, "password_changed"))) == 1


@pytest.mark.parametrize("how", ["password", "disabled", "role"])
async def test_a_mailed_link_ends_when_the_password_standing_or_role_changes(
    identity: IdentityClient, how: str
) -> None:
    person = await identity.person()
    token = await reset_token(identity, person.email)
    if how == "password":
        change = {"current_password": PASSWORD, "new_password": NEW}
        (await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)).raise_for_status()
    for patch in {"disabled": ({"disabled": True}, {"disabled": False}), "role": ({"role": "staff"},)}.get(how, ()):
        (
            await identity.client.patch(f"/v1/users/{person.id}", json=patch, headers=await identity.operator())
        ).raise_for_status()
    answer = await identity.client.post(
        "/v1/auth/password-reset/confirm", json={"token": token, "password": "an attacker's own words"}
    )
    assert answer.status_code == 400
    assert (await identity.login(person.email, NEW if how == "password" else PASSWORD)).status_code == 200


async def test_a_link_that_is_being_mailed_while_the_password_changes_is_ended_too(identity: IdentityClient) -> None:
    """The change waits for the mailing that has begun, and then ends its link."""
    person, context = await identity.person(), identity.shop.get_context("identity")
    fresh, now = f"{uuid4().hex}", context.clock()
    async with context.database.unit_of_work() as mailing:
        (account,) = await resets.lock_entitled_accounts(mailing, [person.email], 3, 10, now)
        change = {"current_password": PASSWORD, "new_password": NEW}
        changing = asyncio.create_task(
            identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)
        )
        await wait_until(lambda: waiting_for_a_lock(identity))
        await resets.insert_link(mailing, compute_fingerprint(fresh), account.id, now, timedelta(minutes=30))
    assert (await changing).status_code == 204
    answer = await identity.client.post(
        "/v1/auth/password-reset/confirm", json={"token": fresh, "password": "an attacker's own words"}
    )
    assert answer.status_code == 400


async def waiting_for_a_lock(identity: IdentityClient) -> bool:
    return bool(
        await identity.shop.get_database("identity").fetch(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE account%'"
        )
    )


async def test_asking_for_a_reset_tells_nothing_and_mails_no_stranger_and_nobody_without_end(
    identity: IdentityClient,
) -> None:
    person, stranger = await identity.person(), f"{uuid4().hex}@example.com"
    known = await identity.client.post("/v1/auth/password-reset", json={"email": person.email})
    unknown = await identity.client.post("/v1/auth/password-reset", json={"email": stranger})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (202, unknown.content)
    await wait_until(lambda: identity.mails(person.email, "password_reset"))
    for mails in (2, 3, 3, 3):
        await reset_token(identity, person.email, mails)
        await wait_until(lambda: nothing_waits(identity))
    assert len(await identity.mails(person.email, "password_reset")) == 3
    assert await identity.mails(stranger, "password_reset") == []


async def nothing_waits(identity: IdentityClient) -> bool:
    return not await identity.shop.get_database("identity").fetch("SELECT 1 FROM reset_request")


async def test_an_expired_link_and_a_disabled_users_link_are_refused(identity: IdentityClient) -> None:
    person, disabled = await identity.person(), await identity.person()
    late, barred = await reset_token(identity, person.email), await reset_token(identity, disabled.email)
    await identity.shop.get_database("identity").fetch(
        "UPDATE reset_link SET expires_at = now() WHERE account_id = $1", person.id
    )
    await identity.client.patch(f"/v1/users/{disabled.id}", json={"disabled": True}, headers=await identity.operator())
    for token in (late, barred, "no such token"):
        answer = await identity.client.post("/v1/auth/password-reset/confirm", json={"token": token, "password": NEW})
        assert answer.status_code == 400


async def test_a_hash_with_old_parameters_is_renewed_at_the_next_sign_in(identity: IdentityClient) -> None:
    person, database = await identity.person(), identity.shop.get_database("identity")
    cheaper = PasswordHasher(Settings(argon2_passes=1, argon2_memory_kib=32))
    old = await cheaper.hash_password(PASSWORD)
    cheaper.close()
    await database.fetch("UPDATE account SET password = $2 WHERE id = $1", person.id, old)
    again = await identity.sign_in(person)
    account = await accounts.get_account(database, person.id)
    assert account is not None
    assert account.password is not None
    assert account.password != old
    assert "m=64," in account.password
    assert (await identity.me(again.access)).status_code == 200


async def test_an_address_gets_ten_links_a_day_and_who_asks_for_more_is_answered_the_same(
    identity: IdentityClient,
) -> None:
    person, other = await identity.person(), await identity.person()
    for number in range(10):
        await reset_token(identity, person.email, mails=number + 1)
        await identity.shop.get_database("identity").fetch(
            "UPDATE reset_link SET created_at = created_at - interval '61 minutes' WHERE account_id = $1", person.id
        )
    answer = await identity.client.post("/v1/auth/password-reset", json={"email": person.email})
    assert answer.status_code == 202
    await reset_token(identity, other.email)  # asked for later, so the other's has been decided
    assert len(await identity.mails(person.email, "password_reset")) == 10
    await identity.shop.get_database("identity").fetch(
        "UPDATE reset_link SET created_at = created_at - interval '1 day' WHERE account_id = $1", person.id
    )
    await reset_token(identity, person.email, mails=11)
