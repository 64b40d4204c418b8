"""The token endpoint: every grant, rotation with reuse detection, and what an exchanged token may do."""

import asyncio
import base64
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from caravan.derivation import derive_secret
from services.identity.client import GET_SESSION_STATE, SessionStateRequest
from services.identity.use_cases.token_grants import ACCESS_TOKEN_TYPE, TOKEN_EXCHANGE
from tests.services.identity.conftest import IdentityClient, Person
from tests.support.shop import URL, wait_until


async def claims_of(identity: IdentityClient, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set((await identity.client.get("/.well-known/jwks.json")).json())
    return dict(jwt.decode(token, keys, algorithms=["EdDSA"]).claims)


async def exchange(identity: IdentityClient, admin: dict[str, str], subject: object) -> Any:
    token = admin["authorization"].removeprefix("Bearer ")
    return await identity.token(
        TOKEN_EXCHANGE, subject_token=token, subject_token_type=ACCESS_TOKEN_TYPE, requested_subject=str(subject)
    )


async def test_a_sign_in_gives_a_short_token_that_the_published_keys_verify(identity: IdentityClient) -> None:
    user = (await identity.register()).json()
    answer = await identity.login(user["email"].upper())
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 600
    claims = await claims_of(identity, tokens["access_token"])
    assert (claims["iss"], claims["aud"], claims["sub"], claims["role"], claims["typ"]) == (
        URL,
        "caravan",
        user["id"],
        "customer",
        "access",
    )
    assert claims["exp"] - claims["iat"] == 600
    document = (await identity.client.get("/.well-known/openid-configuration")).json()
    assert (document["issuer"], document["jwks_uri"]) == (URL, URL + "/.well-known/jwks.json")
    assert await wait_until(lambda: identity.audited(user["id"], "login.succeeded"))


async def test_published_keys_hold_nothing_private_and_stored_ones_are_sealed(identity: IdentityClient) -> None:
    keys = (await identity.client.get("/.well-known/jwks.json")).json()["keys"]
    assert keys
    assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in keys)
    private = {
        key.as_dict(private=True)["d"] for key in identity.shop.get_context("identity").resources.private_keys.values()
    }
    rows = await identity.shop.get_database("identity").fetch("SELECT sealed, public::text FROM signing_key")
    for row in rows:
        assert not any(base64.urlsafe_b64decode(d + "=") in row[0] or d in row[1] for d in private)


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(identity: IdentityClient) -> None:
    person = await identity.person()
    wrong, unknown = (
        await identity.login(person.email, "not the password"),
        await identity.login(f"{uuid4().hex}@example.com"),
    )
    assert wrong.status_code == unknown.status_code == 400
    strip = ("trace_id",)
    assert {k: v for k, v in wrong.json().items() if k not in strip} == {
        k: v for k, v in unknown.json().items() if k not in strip
    }
    assert wrong.json()["error"] == "invalid_grant"
    assert wrong.headers["content-type"] == "application/problem+json"
    assert await wait_until(lambda: identity.audited(person.id, "login.failed"))


async def test_refreshing_rotates_and_goes_on(identity: IdentityClient) -> None:
    person = await identity.person()
    for _ in range(3):
        tokens = (await identity.refresh(person.refresh)).raise_for_status().json()
        assert tokens["refresh_token"] != person.refresh
        person = Person(person.id, person.email, tokens["access_token"], tokens["refresh_token"])
    assert (await identity.me(person.access)).status_code == 200


async def test_using_a_refresh_token_twice_ends_the_session_and_mails_once(identity: IdentityClient) -> None:
    person = await identity.person()
    other = await identity.sign_in(person)
    tokens = (await identity.refresh(person.refresh)).json()
    assert (await identity.refresh(person.refresh)).json()["error"] == "invalid_grant"
    assert (await identity.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await identity.refresh(person.refresh)).status_code == 400
    assert (await identity.me(tokens["access_token"])).status_code == 401
    assert len(await wait_until(lambda: identity.mails(person.email, "session_reuse"))) == 1
    assert len(await identity.audited(person.id, "session.reuse")) == 1
    assert (await identity.refresh(other.refresh)).status_code == 200, "another session of the user goes on"


async def test_two_uses_at_the_same_moment_count_as_reuse(identity: IdentityClient) -> None:
    person = await identity.person()
    answers = await asyncio.gather(*(identity.refresh(person.refresh) for _ in range(5)))
    winners = [answer.json()["refresh_token"] for answer in answers if answer.status_code == 200]
    assert len(winners) == 1
    assert (await identity.refresh(winners[0])).status_code == 400


async def test_a_forged_refresh_token_ends_nothing(identity: IdentityClient) -> None:
    person = await identity.person()
    body, _, seal = person.refresh.partition(".")
    raw = bytearray(base64.urlsafe_b64decode(body + "=="))
    raw[-1] ^= 1
    other = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    for forged in (f"{other}.{seal}", f"{body}.{seal[::-1]}", body, "", ".", "é.é", person.access[:200]):
        assert (await identity.refresh(forged)).status_code == 400
    assert (await identity.refresh(person.refresh)).status_code == 200


async def test_revoking_ends_the_session_and_says_nothing_of_unknown_tokens(identity: IdentityClient) -> None:
    person = await identity.person()
    for way in (
        {"json": {"token": person.refresh}},
        {"data": {"token": "unknown"}},
        {"data": {"token": person.refresh}},
    ):
        answer = await identity.client.post("/v1/auth/revoke", **way)  # type: ignore[arg-type]
        assert (answer.status_code, answer.content) == (200, b"{}"), "whichever token it was"
    assert (await identity.refresh(person.refresh)).status_code == 400
    assert (await identity.me(person.access)).status_code == 401
    assert (await identity.mails(person.email, "session_reuse")) == []
    json = {"content-type": "application/json"}
    for body in (b"{}", b"[1]", b'{"token": 5}', b'{"token": ""}'):
        assert (await identity.client.post("/v1/auth/revoke", content=body, headers=json)).status_code == 422, body
    assert (
        await identity.client.post(
            "/v1/auth/revoke", content=b"token=a&token=b", headers={"content-type": "application/x-www-form-urlencoded"}
        )
    ).status_code == 422
    for body in (b"{", b'{"token": "a", "token": "b"}', b'{"token": "\xff"}'):
        assert (await identity.client.post("/v1/auth/revoke", content=body, headers=json)).status_code == 400, body
    assert (await identity.client.post("/v1/auth/revoke", content=b"{}")).status_code == 415


async def test_a_client_gets_a_service_token_by_its_derived_secret(identity: IdentityClient) -> None:
    secret = derive_secret(identity.shop.get_context("identity").secret, "client:orders")
    basic = base64.b64encode(f"orders:{secret}".encode()).decode()
    by_form = await identity.token("client_credentials", client_id="orders", client_secret=secret)
    by_basic = await identity.client.post(
        "/v1/auth/token", data={"grant_type": "client_credentials"}, headers={"authorization": f"Basic {basic}"}
    )
    for answer in (by_form, by_basic):
        claims = await claims_of(identity, answer.json()["access_token"])
        assert (claims["sub"], claims["role"]) == ("orders", "service")
        assert "refresh_token" not in answer.json()
        state = SessionStateRequest(session=claims["sid"], subject="orders")
        assert (await identity.shop.get_context("identity").call(GET_SESSION_STATE, state)).active
    for client, given in (("orders", "x"), ("cli", secret), ("Orders\r\n", secret)):
        refused = await identity.token("client_credentials", client_id=client, client_secret=given)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
        assert refused.headers["www-authenticate"].startswith("Basic")


async def test_an_admin_acts_in_a_customers_name_and_both_are_named(identity: IdentityClient) -> None:
    admin, person = await identity.person("admin"), await identity.person()
    answer = await exchange(identity, admin.bearer, person.email.upper())
    assert answer.status_code == 200
    assert answer.json()["issued_token_type"] == ACCESS_TOKEN_TYPE
    assert "refresh_token" not in answer.json()
    token = answer.json()["access_token"]
    claims = await claims_of(identity, token)
    assert (claims["sub"], claims["role"], claims["act"]) == (str(person.id), "customer", {"sub": f"admin:{admin.id}"})
    assert (await identity.me(token)).json()["id"] == str(person.id)
    assert (await wait_until(lambda: identity.audited(person.id, "token.exchanged")))[0]["actor"] == f"admin:{admin.id}"
    change = {"current_password": "x", "new_password": "thirteen camels at dawn"}
    refused = await identity.client.post(
        "/v1/users/me/password", json=change, headers={"authorization": f"Bearer {token}"}
    )
    assert refused.status_code == 403
    await identity.client.post("/v1/auth/revoke", json={"token": admin.refresh})
    assert (await identity.me(token)).status_code == 401, "it ends with the admin's session"


async def test_the_operators_command_line_may_exchange_too(identity: IdentityClient) -> None:
    person = await identity.person()
    token = (await exchange(identity, await identity.operator(), person.id)).json()["access_token"]
    assert (await identity.me(token)).status_code == 200
    await identity.client.patch(f"/v1/users/{person.id}", json={"disabled": True}, headers=await identity.operator())
    assert (await identity.me(token)).status_code == 401


async def test_nobody_else_and_for_nobody_else_is_a_token_exchanged(identity: IdentityClient) -> None:
    admin, staff, person = await identity.person("admin"), await identity.person("staff"), await identity.person()
    exchanged = (await exchange(identity, admin.bearer, person.id)).json()["access_token"]
    for bearer, subject, error in (
        (staff.bearer, person.id, "unauthorized_client"),
        (person.bearer, person.id, "unauthorized_client"),
        ({"authorization": f"Bearer {exchanged}"}, person.id, "unauthorized_client"),
        ({"authorization": "Bearer x.y.z"}, person.id, "invalid_grant"),
        (admin.bearer, staff.id, "invalid_request"),
        (admin.bearer, admin.email, "invalid_request"),
        (admin.bearer, uuid4(), "invalid_request"),
    ):
        answer = await exchange(identity, bearer, subject)
        assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "a@b"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": TOKEN_EXCHANGE, "subject_token": "x", "subject_token_type": "id"}, "invalid_request"),
    ],
)
async def test_a_malformed_request_gets_the_oauth_error(
    identity: IdentityClient, form: dict[str, str], error: str
) -> None:
    answer = await identity.client.post("/v1/auth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_description"]
    assert (await identity.client.post("/v1/auth/token", json=form)).status_code == 415
    assert (await identity.client.post("/v1/auth/token", data={"grant_type": "pass\x00word"})).status_code == 422
    assert (await identity.client.post("/v1/auth/token", headers={b"authorization": b"Basic \xe9"})).status_code == 400
