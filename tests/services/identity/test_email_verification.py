"""An e-mail address is asked whether it is its user's, before anything that somebody else wrote is mailed to it."""

from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

from caravan.clock import utc_now
from services.identity.model import Account, create_verification_token, is_valid_verification, read_verification_account
from services.identity.store import accounts
from services.identity.use_cases.email_verification import FIRST_PAUSE, MAX_PAUSE
from tests.services.identity.conftest import PASSWORD, IdentityClient
from tests.services.identity.test_passwords import NEW, reset_token
from tests.support.shop import URL, wait_until

PAGE = "/v1/auth/verification/page"


async def link_of(identity: IdentityClient, email: str) -> str:
    mails = await wait_until(lambda: identity.mails(email, "verify_email"))
    link: str = mails[-1]["values"]["link"]
    assert link.startswith(URL + PAGE)
    return link.removeprefix(URL)


async def verified(identity: IdentityClient, access: str) -> bool:
    found: bool = (await identity.me(access)).json()["verified"]
    return found


async def updates(identity: IdentityClient, person_id: object) -> list[bool]:
    return [event["data"]["verified"] for event in await identity.shop.read_topic("user-updated", person_id)]


async def test_the_link_of_the_mail_verifies_the_address_by_a_page_and_then_the_user_is_welcomed(
    identity: IdentityClient,
) -> None:
    person = await identity.person()
    (mail,) = await wait_until(lambda: identity.mails(person.email, "verify_email"))
    assert "Zenobia" not in str(mail), "a mail to an address that may be anybody's holds nobody's words"
    assert not await verified(identity, person.access)
    link = await link_of(identity, person.email)
    for _ in range(2):
        page = await identity.client.get(link)
        assert page.status_code == 200
        assert person.email in page.text
        assert "Zenobia" not in page.text
    assert not await verified(identity, person.access), "looking changes nothing"
    for _ in range(2):
        assert (await identity.client.post(PAGE, data={"token": link.partition("=")[2]})).status_code == 200
    assert await verified(identity, person.access)
    assert await wait_until(lambda: updates(identity, person.id)) == [True]
    welcomes = await wait_until(lambda: identity.shop.read_queue("notifications.standard", person.id))
    assert [(mail["data"]["kind"], mail["data"]["values"]) for mail in welcomes] == [("welcome", {"name": "Zenobia"})]


async def test_mails_hold_the_name_of_verified_users_only(identity: IdentityClient) -> None:
    person = await identity.person()
    change = {"current_password": PASSWORD, "new_password": NEW}
    (await identity.client.post("/v1/users/me/password", json=change, headers=person.bearer)).raise_for_status()
    await reset_token(identity, person.email)
    for kind in ("password_changed", "password_reset"):
        (mail,) = await wait_until(partial(identity.mails, person.email, kind))
        assert "Zenobia" not in str(mail)


async def test_a_link_ends_with_the_password_and_a_reset_by_mail_verifies_too(identity: IdentityClient) -> None:
    person = await identity.person()
    link = await link_of(identity, person.email)
    token = await reset_token(identity, person.email)
    (
        await identity.client.post("/v1/auth/password-reset/confirm", json={"token": token, "password": NEW})
    ).raise_for_status()
    assert (await identity.client.get(link)).status_code == 400
    tokens = (await identity.login(person.email, NEW)).json()
    assert await verified(identity, tokens["access_token"])


async def test_a_forged_an_old_and_a_disabled_users_link_are_refused(identity: IdentityClient) -> None:
    person, other = await identity.person(), await identity.person()
    link = await link_of(identity, person.email)
    token = urlsplit(link).query.partition("=")[2]
    for bad in ("", "x", token[:-2] + "AA", (await link_of(identity, other.email)).partition("=")[2][:33] + token[33:]):
        assert (await identity.client.get(PAGE, params={"token": bad})).status_code == 400
        assert (await identity.client.post(PAGE, data={"token": bad})).status_code == 400
    (
        await identity.client.patch(
            f"/v1/users/{person.id}", json={"disabled": True}, headers=await identity.operator()
        )
    ).raise_for_status()
    assert (await identity.client.post(PAGE, data={"token": token})).status_code == 400
    account = await accounts.get_account(identity.shop.get_database("identity"), other.id)
    assert isinstance(account, Account)
    soon = create_verification_token(account, utc_now() + timedelta(minutes=1), b"key")
    assert read_verification_account(soon) == account.id
    assert is_valid_verification(soon, account, utc_now(), b"key")
    assert not is_valid_verification(soon, account, utc_now() + timedelta(minutes=2), b"key")
    assert not is_valid_verification(soon, account, utc_now(), b"another key")


async def test_one_address_is_not_asked_again_and_again(identity: IdentityClient) -> None:
    person = await identity.person()
    await wait_until(lambda: identity.mails(person.email, "verify_email"))
    again = await identity.client.post("/v1/users/me/verification", headers=person.bearer)
    assert again.status_code == 429
    assert int(again.headers["retry-after"]) > 0
    await identity.shop.get_database("identity").fetch(
        "UPDATE account SET verification_mailed_at = now() - interval '21 minutes' WHERE id = $1", person.id
    )
    assert (await identity.client.post("/v1/users/me/verification", headers=person.bearer)).status_code == 202
    once_more = await identity.client.post("/v1/users/me/verification", headers=person.bearer)
    assert once_more.status_code == 429
    assert 39 * 60 < int(once_more.headers["retry-after"]) <= 40 * 60
    link = await link_of(identity, person.email)
    await identity.client.post(PAGE, data={"token": link.partition("=")[2]})
    assert (await identity.client.post("/v1/users/me/verification", headers=person.bearer)).status_code == 409


async def test_however_often_it_is_asked_an_address_gets_few_mails_on_the_first_day_and_then_one_in_three_days(
    identity: IdentityClient,
) -> None:
    person = await identity.person()
    began, mailed = utc_now(), []
    for minutes in range(0, 10 * 24 * 60, 10):
        now = began + timedelta(minutes=minutes)
        async with identity.shop.get_database("identity").unit_of_work() as uow:
            again = await accounts.claim_verification_mail(uow, person.id, now, FIRST_PAUSE, MAX_PAUSE)
        assert again is None or again > now
        mailed += [now] if again is None else []
    of_first_day = [moment for moment in mailed if moment < began + timedelta(days=1)]
    assert 3 <= len(of_first_day) <= 6
    assert len(mailed) <= len(of_first_day) + 5


async def test_an_invited_user_is_vouched_for(identity: IdentityClient) -> None:
    body = {"email": f"invited-{utc_now().timestamp()}@example.com", "name": "Odaenathus"}
    made = (await identity.client.post("/v1/users/invitations", json=body, headers=await identity.operator())).json()
    assert made["verified"]
    assert await identity.mails(made["email"], "verify_email") == []
