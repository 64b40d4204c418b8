"""Who somebody with a token of an outside issuer, a process of its own, is in this shop, and what they may do."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from caravan.runtime import Backends
from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import (
    OutsideIssuer,
    audited,
    person,
    refused,
    run_identity,
    who,
)
from tests.support.shop import wait_until


@pytest.fixture(scope="module")
async def identity(backends: Backends, issuer: OutsideIssuer) -> AsyncIterator[IdentityClient]:
    async with run_identity(backends, issuer.url) as running:
        yield running


async def test_the_first_token_makes_a_user_and_the_next_ones_are_the_same_user(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    claims = person()
    first = await who(identity, await issuer.sign(**claims))
    assert first["email"] == claims["email"]
    assert (first["name"], first["role"], first["verified"], first["external"]) == ("Una Corp", "customer", True, True)
    assert not first["invited"], "no password reset is expected of them"
    moved = await who(identity, await issuer.sign(**claims | {"email": "another@corp.test"}))
    assert moved["id"] == first["id"], "the subject is who it is, not the address"
    (made,) = await audited(identity, first["id"], "user.made")
    assert made["details"]["issuer"] == issuer.url
    registered = await identity.shop.read_topic("user-registered", first["id"])
    assert [event["data"]["email"] for event in registered] == [claims["email"]]


async def test_first_tokens_at_the_same_moment_make_one_user(identity: IdentityClient, issuer: OutsideIssuer) -> None:
    claims = person()
    tokens = [await issuer.sign(**claims, jti=str(index)) for index in range(8)]
    users = await asyncio.gather(*(who(identity, token) for token in tokens))
    assert len({user["id"] for user in users}) == 1
    await audited(identity, users[0]["id"], "user.made")


async def test_each_token_is_a_sign_in_once(identity: IdentityClient, issuer: OutsideIssuer) -> None:
    claims, now = person(), int(time.time())
    old, new = [await issuer.sign(**claims, iat=now - 60 + age) for age in (0, 30)]
    user = await who(identity, old)
    await who(identity, new)
    verifier = identity.shop.get_context("identity").verifier
    verifier._cache.clear()
    for token in (old, new, new):
        await who(identity, token)
    signed_in = await audited(identity, user["id"], "login.succeeded", 2)
    assert [entry["details"]["session"] for entry in signed_in] == [
        f"external:{user['id']}:{now - 60}",
        f"external:{user['id']}:{now - 30}",
    ]


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["shop-staff"], "staff"),
        (["shop-staff", "shop-admins", "others"], "admin"),
        ("shop-staff", "staff"),
        (["others"], "customer"),
        ([], "customer"),
        (None, "customer"),
        ([["shop-admins"], {"shop-admins": 1}, 7, None], "customer"),
        ({"shop-admins": True}, "customer"),
        ("shop-admins,shop-staff", "customer"),
        ("SHOP-ADMINS", "customer"),
    ],
    ids=str,
)
async def test_groups_give_the_role(identity: IdentityClient, issuer: OutsideIssuer, groups: Any, role: str) -> None:
    assert (await who(identity, await issuer.sign(**person(groups=groups))))["role"] == role


async def test_a_role_follows_the_groups_and_earlier_tokens_with_another_end(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    claims, now = person(), int(time.time())
    admin = await issuer.sign(**claims, groups=["shop-admins"], iat=now - 60)
    user = await who(identity, admin)
    assert (await identity.client.get("/v1/users", headers={"authorization": f"Bearer {admin}"})).status_code == 200
    assert (await who(identity, await issuer.sign(**claims, iat=now - 30)))["role"] == "customer"
    await refused(identity, admin, "ended")
    (changed,) = await audited(identity, user["id"], "role.changed")
    assert (changed["details"]["before"], changed["details"]["to"]) == ("admin", "customer")
    assert changed["actor"] == f"issuer:{issuer.url}"
    identity.shop.get_context("identity").verifier._cache.clear()
    await refused(identity, admin, "ended")
    assert (await who(identity, await issuer.sign(**claims, iat=now - 20)))["role"] == "customer"


async def test_a_role_that_follows_groups_is_not_changed_here(identity: IdentityClient, issuer: OutsideIssuer) -> None:
    user = await who(identity, await issuer.sign(**person()))
    answer = await identity.client.patch(
        f"/v1/users/{user['id']}", json={"role": "admin"}, headers=await identity.operator()
    )
    assert answer.status_code == 409
    assert issuer.url in answer.json()["detail"]


async def test_a_disabled_user_stays_out_and_enabling_brings_no_old_token_back(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    claims, now = person(), int(time.time())
    old = await issuer.sign(**claims, iat=now - 60)
    user, operator = await who(identity, old), await identity.operator()
    for disabled in (True, False):
        path, body = f"/v1/users/{user['id']}", {"disabled": disabled}
        (await identity.client.patch(path, json=body, headers=operator)).raise_for_status()
        for token in (old, await issuer.sign(**claims, iat=now - 30)):
            await refused(identity, token, "ended" if not disabled or token == old else "disabled")
    assert (await who(identity, await issuer.sign(**claims, iat=int(time.time()) + 2)))["id"] == user["id"]


async def test_an_address_that_has_an_account_is_not_taken_over(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    taken = (await identity.register()).raise_for_status().json()
    await refused(identity, await issuer.sign(**person(email=taken["email"])), "not yours")
    again = await who(identity, await issuer.sign(**(claims := person())))
    await refused(identity, await issuer.sign(**person(email=claims["email"])), "not yours")
    assert (await identity.login(taken["email"])).status_code == 200
    assert again["email"] == claims["email"]


@pytest.mark.parametrize(
    "email", [None, "", "no address", 7, ["a@corp.test"], "a@corp.test\x00", "x" * 500 + "@corp.test"]
)
async def test_a_first_token_without_a_usable_address_says_what_to_do(
    identity: IdentityClient, issuer: OutsideIssuer, email: Any
) -> None:
    await refused(identity, await issuer.sign(**person(email=email)), "`email`")


async def test_an_address_that_the_issuer_has_not_verified_is_asked(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    """And whoever turns out to have the mailbox has the account: the other one is out."""
    claims = person(email_verified=False)
    user = await who(identity, await issuer.sign(**claims))
    assert not user["verified"]
    assert len(await wait_until(lambda: identity.mails(claims["email"], "verify_email"))) == 1
    await identity.client.post("/v1/auth/password-reset", json={"email": claims["email"]})

    async def link() -> str:
        mails = await identity.mails(claims["email"], "password_reset")
        assert len(mails) == 1
        return str(mails[0]["values"]["link"]).rpartition("=")[2]

    body = {"token": await wait_until(link), "password": "thirteen camels at dawn"}
    (await identity.client.post("/v1/auth/password-reset/confirm", json=body)).raise_for_status()
    await refused(identity, await issuer.sign(**claims, iat=int(time.time()) + 2), "not yours")
    (await identity.login(claims["email"], "thirteen camels at dawn")).raise_for_status()


async def test_who_signs_in_there_gets_no_password_by_mail(identity: IdentityClient, issuer: OutsideIssuer) -> None:
    claims = person()
    await who(identity, await issuer.sign(**claims))
    other = await identity.person()
    for email in (claims["email"], other.email):
        await identity.client.post("/v1/auth/password-reset", json={"email": email})

    async def mailed() -> bool:
        return len(await identity.mails(other.email, "password_reset")) == 1

    await wait_until(mailed)
    assert await identity.mails(claims["email"], "password_reset") == []


async def test_linking_needs_an_address_that_both_sides_have_verified(
    backends: Backends, issuer: OutsideIssuer
) -> None:
    async with run_identity(backends, issuer.url, IDENTITY_OIDC_LINK_BY_EMAIL="true") as identity:
        here = await identity.person("staff")
        context = identity.shop.get_context("identity")
        await refused(identity, await issuer.sign(**person(email=here.email)), "was not verified")
        await context.database.execute("UPDATE account SET verified_at = now() WHERE id = $1", here.id)
        await refused(
            identity, await issuer.sign(**person(email=here.email, email_verified=False)), "verify the address"
        )
        claims = person(email=here.email.upper())
        linked = await who(identity, await issuer.sign(**claims))
        assert UUID(linked["id"]) == here.id
        assert linked["role"] == "customer", "the groups say so"
        assert (await identity.me(here.access)).status_code == 401, "a session with the old role has ended"
        await audited(identity, here.id, "user.linked")
        await refused(identity, await issuer.sign(**person(email=here.email)), "not yours")
        (await identity.login(here.email)).raise_for_status()


async def test_the_last_admin_with_a_password_stays_admin(backends: Backends, issuer: OutsideIssuer) -> None:
    async with run_identity(backends, issuer.url, IDENTITY_OIDC_LINK_BY_EMAIL="true") as identity:
        database = identity.shop.get_context("identity").database
        admin = await identity.person("admin")
        await database.execute("UPDATE account SET verified_at = now() WHERE id = $1", admin.id)
        await database.execute("UPDATE account SET role = 'staff' WHERE role = 'admin' AND id <> $1", admin.id)
        token = await issuer.sign(**person(email=admin.email))
        assert (await who(identity, token))["role"] == "admin"
        _, kept = await audited(identity, admin.id, "role.changed", 2)
        assert kept["result"] == "refused"
        assert kept["details"]["reason"] == "last admin"


async def test_who_is_in_no_group_can_be_refused_and_loses_what_there_was(
    backends: Backends, issuer: OutsideIssuer
) -> None:
    async with run_identity(backends, issuer.url, IDENTITY_OIDC_DEFAULT_ROLE="none") as identity:
        await refused(identity, await issuer.sign(**person()), "none of your groups")
        claims, now = person(), int(time.time())
        staff = await issuer.sign(**claims, groups=["shop-staff"], iat=now - 60)
        user = await who(identity, staff)
        without = await issuer.sign(**claims, iat=now - 30)
        await refused(identity, without, "none of your groups")
        await refused(identity, staff, "ended")
        (refusal,) = await audited(identity, user["id"], "login.failed")
        assert "groups" in refusal["details"]["reason"]
