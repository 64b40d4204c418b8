"""The page of the link in a password reset mail: a person without a client of ours sets a new password with it."""

import re
from html import unescape
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.services.identity.conftest import PASSWORD, IdentityClient
from tests.services.identity.test_passwords import NEW, nothing_waits
from tests.support.shop import URL, wait_until

PAGE = "/v1/auth/password-reset/page"


async def link_of(identity: IdentityClient, email: str) -> str:
    mails = await wait_until(lambda: identity.mails(email, "password_reset"))
    link: str = mails[-1]["values"]["link"]
    assert link.startswith(URL)
    return link.removeprefix(URL)


async def test_a_person_sets_a_new_password_by_the_pages_alone(identity: IdentityClient) -> None:
    person = await identity.person()
    asked = await identity.client.get(PAGE)
    assert asked.status_code == 200
    assert asked.headers["content-type"].startswith("text/html")
    assert 'name="email"' in asked.text
    assert "Look into your mailbox" in (await identity.client.post(PAGE, data={"email": person.email})).text
    link = await link_of(identity, person.email)
    for _ in range(2):
        page = await identity.client.get(link)
        assert page.status_code == 200, "looking uses nothing up"
    headers = page.headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script" not in page.text
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer"), (
        "the link stays with the reader"
    )
    form = re.search(
        r'<form method="post" action="([^"]+)"><input type="hidden" name="token" value="([^"]+)">', page.text
    )
    assert form
    action, token = map(unescape, form.groups())
    for bad in ("short", "password12", PASSWORD + "\x00"):
        refused = await identity.client.post(action, data={"token": token, "password": bad})
        assert refused.status_code == 422
        assert 'name="password"' in refused.text
        assert bad not in refused.text
    done = await identity.client.post(action, data={"token": token, "password": NEW})
    assert done.status_code == 200
    assert "Your password is set" in done.text
    assert (await identity.login(person.email, NEW)).status_code == 200
    assert (await identity.me(person.access)).status_code == 401
    for again in (
        await identity.client.get(link),
        await identity.client.post(action, data={"token": token, "password": PASSWORD}),
    ):
        assert again.status_code == 400
        assert "no longer works" in again.text
        assert 'name="email"' in again.text


async def test_the_page_tells_nothing_of_who_has_an_account(identity: IdentityClient) -> None:
    person = await identity.person()
    answers = [
        await identity.client.post(PAGE, data={"email": email})
        for email in (person.email, f"{uuid4().hex}@example.com")
    ]
    assert answers[0].content == answers[1].content
    assert {answer.status_code for answer in answers} == {200}
    assert (await identity.client.post(PAGE, data={"email": "no address"})).status_code == 422
    await wait_until(lambda: nothing_waits(identity))


@given(token=st.text(max_size=150))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_a_link_holds_is_shown_as_text(identity: IdentityClient, token: str) -> None:
    markup = f"\"><script>alert('{token}')</script>"[:150]
    for answer in (
        await identity.client.get(PAGE, params={"token": markup}),
        await identity.client.post(PAGE, data={"token": markup, "password": "short"}),
    ):
        assert answer.status_code in (400, 422)
        assert "<script" not in answer.text
