"""Registering, inviting, and the first admin, through HTTP."""

import asyncio
import hashlib
import secrets
from uuid import uuid4

import httpx2
import orjson
import pytest

from caravan.derivation import derive_secret
from caravan.email_address import is_email_address
from caravan.passwords import find_password_weakness
from services.identity.client import EnsureAdminRequest
from services.identity.model import Account
from services.identity.store import accounts
from services.identity.use_cases.registration import ensure_admin
from tests.services.identity.conftest import PASSWORD, IdentityClient
from tests.services.identity.test_passwords import reset_token
from tests.support.shop import URL, wait_until


async def account(identity: IdentityClient, email: str) -> Account:
    found = await accounts.find_by_email(identity.shop.get_database("identity"), email)
    assert found is not None
    return found


async def test_a_registered_user_can_sign_in_and_is_announced_once(identity: IdentityClient) -> None:
    answer = await identity.register()
    assert answer.status_code == 201
    user = answer.json()
    assert answer.headers["location"] == f"/v1/users/{user['id']}"
    assert answer.headers["etag"] == '"1"'
    assert user["role"] == "customer"
    assert "password" not in str(user).replace("'invited'", "")
    tokens = (await identity.login(user["email"])).json()
    assert (await identity.me(tokens["access_token"])).json() == user
    events = await wait_until(lambda: identity.shop.read_topic("user-registered", user["id"]))
    assert [event["data"]["email"] for event in events] == [user["email"]]
    assert not events[0]["data"]["invited"]


async def test_the_password_is_stored_as_argon2id_only(identity: IdentityClient) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "name": "Zenobia"}
    user = (await identity.client.post("/v1/users", json=body, headers={"Idempotency-Key": uuid4().hex})).json()
    assert (await account(identity, user["email"])).password.startswith("$argon2id$")  # type: ignore[union-attr]
    database = identity.shop.get_database("identity")
    for table in ("account", "idempotency", "outbox"):
        assert not any(PASSWORD in row[0] for row in await database.fetch(f"SELECT t::text FROM {table} t"))
    unkeyed = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()
    assert not await database.fetch("SELECT 1 FROM idempotency WHERE fingerprint = $1", unkeyed), (
        "the password could be guessed from it"
    )


async def test_a_taken_email_makes_no_second_account_whatever_its_case(identity: IdentityClient) -> None:
    email = f"{uuid4().hex}@example.com"
    answers = await asyncio.gather(
        *(identity.register(spelling) for spelling in (email, email.upper(), f" {email} ", email))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert refused["type"].endswith("/email-taken")


async def test_the_same_key_makes_one_account_and_the_same_answer_also_in_parallel(identity: IdentityClient) -> None:
    email, key = f"{uuid4().hex}@example.com", uuid4().hex
    answers = await asyncio.gather(*(identity.register(email, **{"Idempotency-Key": key}) for _ in range(4)))
    assert {(answer.status_code, answer.content, answer.headers["location"]) for answer in answers} == {
        (201, answers[0].content, answers[0].headers["location"])
    }
    other = await identity.client.post(
        "/v1/users",
        json={"email": email, "password": PASSWORD + "!", "name": "Zenobia"},
        headers={"Idempotency-Key": key},
    )
    assert other.status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"email": "nobody"},
        {"email": "a@b\r\nBcc: c@d.com"},
        {"email": "a\x00@example.com"},
        {"email": "x" * 65 + "@example.com"},
        {"email": "é" * 33 + "@example.com"},
        {"email": "a@" + "b" * 60 + ".de" * 70},
        {"email": "a..b@example.com"},
        {"email": "a\u202eb@example.com"},
        {"email": "a\u200db@example.com"},
        {"password": "short"},
        {"password": "x" * 129},
        {"password": "aaaaaaaaaaaa"},
        {"password": "camels@example.com", "email": "camels@example.com"},
        {"password": "camels@example.com1", "email": "camels@example.com"},
        {"password": "ada.lovelace", "email": "x@example.com", "name": "Ada Lovelace"},
        {"password": "Zenobia.2022"},
        {"password": "a long walk\x00"},
        {"password": "a long walk\tin Palmyra"},
        {"password": "a long walk\x9fin Palmyra"},
        {"name": ""},
        {"name": "a\x00b"},
        {"name": "a\nb"},
        {"role": "admin"},
        {"disabled": False},
        {"name": 5},
    ],
)
async def test_bad_input_is_refused_field_by_field(identity: IdentityClient, change: dict[str, object]) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "name": "Zenobia"} | change
    answer = await identity.client.post("/v1/users", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert any(name in error["field"] for error in answer.json()["errors"] for name in change)


ADVERTISEMENTS = (
    "You won 500 GBP http://prize.example",
    "see www.prize",
    "Prize.example",
    "prize\uff0eexample",
    "prize。example",
    "prize\uff61example",
    "t.me/prize",
    "198.51.100.7",
    "ask@prize",
    "HTTPS://x",
    "пример.рф",
)


@pytest.mark.parametrize("name", ADVERTISEMENTS)
async def test_a_name_holds_no_address(identity: IdentityClient, name: str) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "name": name}
    answer = await identity.client.post("/v1/users", json=body)
    rule = "must be a name, without web or e-mail addresses; after a full stop write a space"
    assert answer.status_code == 422 and answer.json()["errors"] == [{"field": "name", "rule": rule}], answer.text
    person = await identity.person()
    assert (await identity.client.patch("/v1/users/me", json={"name": name}, headers=person.bearer)).status_code == 422


@pytest.mark.parametrize(
    "name", ["Ada Lovelace", "J.R.R. Tolkien", "Martin L. King Jr.", "Zoë", "O'Neill, Shaun", "小野 洋子", "St. John"]
)
async def test_a_persons_name_is_taken(identity: IdentityClient, name: str) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "name": name}
    assert (await identity.client.post("/v1/users", json=body)).status_code == 201


EASY = (
    *"1234567890 password12 Password123! P@ssw0rd2024 qwerty12345 1q2w3e4r5t6y qazwsxedcrfv iloveyou2024 letmein2026 "
    "administrator".split(),
    *"0987654321 abcdefghij trustno1trustno1 12345678901234567890 caravancaravan asdfghjkl; hunter2hunter2 "
    "aaaaaaaaaaaa".split(),
    *"１２３４５６７８９０ ...letmein...12 Summer2026!! --iloveyou2024-- Iloveyoü2024 пароль123456 pässwörd1234 "
    "ｐａｓｓｗｏｒｄ１２３４".split(),
    *("qwerty-qwerty", "   password   ", "p a s s w o r d 1 2"),
)


async def test_strangers_with_the_same_key_do_not_share_it(identity: IdentityClient) -> None:
    """One stranger's key is refused to nobody else, and brings nobody else's answer."""
    for number in range(2):
        body = {"email": f"stranger-{number}@example.com", "password": PASSWORD, "name": "Ada"}
        transport = httpx2.ASGITransport(identity.shop.process.app, client=(f"192.0.2.{number}", 1))
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            made = await client.post("/v1/users", json=body, headers={"idempotency-key": "the same"})
            again = await client.post("/v1/users", json=body, headers={"idempotency-key": "the same"})
        assert made.status_code == 201 and again.json() == made.json(), (made.text, again.text)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
        ("JOSE\u0301.{n}@Bücher.Example", "josé.{n}@xn--bcher-kva.example"),
        ("jose.{n}@xn--bcher-kva.example", "jose.{n}@xn--bcher-kva.example"),
        ("用户{n}@例子.公司", "用户{n}@xn--fsqu00a.xn--55qx5d"),
        ("o'brien+{n}@caravan.local", "o'brien+{n}@caravan.local"),
    ],
)
async def test_an_address_is_kept_in_one_spelling_by_which_its_owner_signs_in(
    identity: IdentityClient, written: str, kept: str
) -> None:
    written, kept = (text.replace("{n}", "n1") for text in (written, kept))
    made = await identity.client.post("/v1/users", json={"email": written, "password": PASSWORD, "name": "Ada"})
    assert made.status_code == 201 and made.json()["email"] == kept, made.text
    for spelling in (written, kept):
        again = await identity.client.post("/v1/users", json={"email": spelling, "password": PASSWORD, "name": "Ada"})
        assert again.status_code == 409, again.text
        form = {"grant_type": "password", "username": spelling, "password": PASSWORD}
        assert (await identity.client.post("/v1/auth/token", data=form)).status_code == 200
    assert is_email_address(kept), "what is registered can be written to"


@pytest.mark.parametrize("password", EASY)
def test_common_passwords_and_patterns_are_refused(password: str) -> None:
    assert "easily guessed" in (find_password_weakness(password, "zenobia@example.com", "Zenobia") or "")


def test_a_phrase_and_random_characters_pass() -> None:
    for password in (
        "correct horse battery",
        "a long walk in Palmyra",
        "żyrafa w szafie gra",
        "кот ходит по крыше ночью",
        "散歩は長い道を行く夜に",
        "xK9#mQ2$vL7p",
        secrets.token_urlsafe(15),
    ):
        assert find_password_weakness(password, "zenobia@example.com", "Zenobia") is None


async def test_every_way_to_set_a_password_refuses_the_same_ones(identity: IdentityClient) -> None:
    person = await identity.person()
    token = await reset_token(identity, person.email)
    for bad in ("password12", f"{PASSWORD}\x00"):
        change = {"current_password": PASSWORD, "new_password": bad}
        assert (
            await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)
        ).status_code == 422
        assert (
            await identity.client.post("/v1/auth/password-reset/confirm", json={"token": token, "password": bad})
        ).status_code == 422
    assert (await identity.login(person.email)).status_code == 200


async def test_half_a_character_is_refused(identity: IdentityClient) -> None:
    body = rb'{"email": "a@example.com", "password": "0123456789\ud800", "name": "Zenobia"}'
    answer = await identity.client.post("/v1/users", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


async def test_an_invited_user_is_made_once_and_claims_the_account_by_a_reset(identity: IdentityClient) -> None:
    operator, email = await identity.operator(), f"{uuid4().hex}@example.com"
    body = {"email": email, "name": "Odaenathus", "role": "staff"}
    first = await identity.client.post("/v1/users/invitations", json=body, headers=operator)
    second = await identity.client.post("/v1/users/invitations", json=body | {"role": "customer"}, headers=operator)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert first.json()["invited"]
    assert (await identity.login(email, "anything at all")).status_code == 400
    events = await wait_until(lambda: identity.shop.read_topic("user-registered", first.json()["id"]))
    assert [event["data"]["invited"] for event in events] == [True]

    await identity.client.post("/v1/auth/password-reset", json={"email": email})
    mail = (await wait_until(lambda: identity.mails(email, "password_reset")))[0]
    token = mail["values"]["link"].partition("?token=")[2]
    assert (
        await identity.client.post("/v1/auth/password-reset/confirm", json={"token": token, "password": PASSWORD})
    ).status_code == 204
    tokens = (await identity.login(email)).json()
    assert (await identity.me(tokens["access_token"])).json()["role"] == "staff"


async def test_an_invitation_with_a_key_is_answered_alike_also_when_the_user_was_there(
    identity: IdentityClient,
) -> None:
    operator, email = await identity.operator(), f"{uuid4().hex}@example.com"
    body = {"email": email, "name": "Odaenathus", "role": "staff"}
    for key, status in (("one", 201), ("two", 200)):
        keyed = {**operator, "idempotency-key": f"{email} {key}"}
        first = await identity.client.post("/v1/users/invitations", json=body, headers=keyed)
        again = await identity.client.post("/v1/users/invitations", json=body, headers=keyed)
        assert (first.status_code, again.status_code, again.content) == (status, status, first.content), key
        assert {
            first.headers[name] == again.headers[name] for name in first.headers if name in ("location", "etag")
        } == {True}
        other = await identity.client.post("/v1/users/invitations", json=body | {"name": "Hairan"}, headers=keyed)
        assert other.status_code == 422 and "another body" in other.json()["detail"], other.text


async def test_only_an_admin_invites(identity: IdentityClient) -> None:
    body = {"email": "x@example.com", "name": "X", "role": "admin"}
    staff = await identity.person("staff")
    assert (await identity.client.post("/v1/users/invitations", json=body)).status_code == 401
    assert (await identity.client.post("/v1/users/invitations", json=body, headers=staff.bearer)).status_code == 403


async def test_the_first_admin_is_made_once_and_the_password_shown_once(identity: IdentityClient) -> None:
    context = identity.shop.get_context("identity")
    await context.database.fetch("UPDATE account SET role = 'customer' WHERE role = 'admin'")
    request = EnsureAdminRequest(email=f"Root-{uuid4().hex}@caravan.local", password=None)
    made = [answer.generated for answer in await asyncio.gather(*(ensure_admin(context, request) for _ in range(3)))]
    shown = [password for password in made if password]
    assert len(shown) == 1
    tokens = (await identity.login(request.email, shown[0])).json()
    assert (await identity.me(tokens["access_token"])).json()["role"] == "admin"
    assert derive_secret(context.secret, "client:cli") not in str(tokens)
