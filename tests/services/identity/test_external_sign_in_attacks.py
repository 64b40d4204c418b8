"""Every way we know to make a sign-in at an outside issuer, a process of its own, end with somebody else's session, or
at somebody else's site.
"""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.runtime import Backends
from services.identity.use_cases.external_sign_in import is_local_path
from tests.services.identity.browser import CALLBACK, LOGIN, Browser, assert_refused, open_browser
from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import OutsideIssuer, run_identity
from tests.support.openid_provider import CLIENT_ID

pytestmark = pytest.mark.usefixtures("restored_issuer")


@pytest.fixture(scope="module")
async def identity(backends: Backends, issuer: OutsideIssuer) -> AsyncIterator[IdentityClient]:
    async with run_identity(backends, issuer.url) as running:
        yield running


@pytest.fixture
async def browser(identity: IdentityClient, issuer: OutsideIssuer) -> AsyncIterator[Browser]:
    async with open_browser(identity) as opened:
        yield Browser(opened, issuer)


async def test_each_sign_in_has_a_state_nonce_and_challenge_of_its_own(browser: Browser) -> None:
    queries = [parse_qs(urlsplit(await browser.begin()).query) for _ in range(3)]
    for name in ("state", "nonce", "code_challenge"):
        assert len({query[name][0] for query in queries}) == 3
    assert all(query["code_challenge_method"] == ["S256"] and len(query["state"][0]) >= 43 for query in queries)


async def test_a_sign_in_is_finished_once(browser: Browser) -> None:
    back = await browser.agree(await browser.begin())
    cookie = browser.shop.cookies["caravan-login"]
    assert (await browser.shop.get(back)).status_code == 303
    assert_refused(await browser.shop.get(back), "not begun in this browser")
    browser.shop.cookies.set("caravan-login", cookie, domain="shop.test", path=CALLBACK)
    assert_refused(await browser.shop.get(back), "finished already")


async def test_nobody_finishes_a_sign_in_of_another_browser(
    identity: IdentityClient, issuer: OutsideIssuer, browser: Browser
) -> None:
    """An attacker's link must not sign the victim in as the attacker."""
    async with open_browser(identity) as other:
        victim = Browser(other, issuer)
        back = await browser.agree(await browser.begin())
        assert_refused(await other.get(back), "not begun in this browser")
        await victim.begin()
        assert_refused(await other.get(back), "not begun in this browser")
    for state in ("", "x", "ä", "x" * 200):
        assert_refused(
            await browser.shop.get(CALLBACK, params={"code": "c", "state": state}), "not begun in this browser"
        )
    for cookie in ("", "x", "gAAAAA", "x" * 5000):
        browser.shop.cookies.clear()
        browser.shop.cookies.set("caravan-login", cookie, domain="shop.test", path=CALLBACK)
        assert_refused(await browser.shop.get(back), "not begun in this browser")


async def test_an_old_sign_in_is_over(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    back = await browser.agree(await browser.begin())
    now = time.time()
    monkeypatch.setattr("cryptography.fernet.time.time", lambda: now + 601)
    assert_refused(await browser.shop.get(back), "more than ten minutes ago")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"nonce": "another"}, "not the answer to this sign-in"),
        ({"nonce": None}, "not the answer to this sign-in"),
        ({"nonce": 7}, "not the answer to this sign-in"),
        ({"nonce": "ä"}, "not the answer to this sign-in"),
        ({"aud": "caravan-api"}, "not issued for this shop"),
        ({"aud": [CLIENT_ID, "another"]}, "another client"),
        ({"azp": "another"}, "another client"),
        ({"iss": "http://127.0.0.1:1"}, "not issued for this shop"),
        ({"exp": 1}, "expired"),
        ({"nbf": 2**33}, "not valid yet"),
        ({"iat": None}, "iat"),
        ({"sub": None}, "somebody else"),
    ],
    ids=str,
)
async def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    issuer: OutsideIssuer, browser: Browser, claims: dict[str, Any], reason: str
) -> None:
    await issuer.steer("set", id_token=claims)
    assert_refused(await browser.sign_in(), reason[1:])  # its first letter is large


async def test_the_verifier_of_another_sign_in_gets_nothing(
    identity: IdentityClient, issuer: OutsideIssuer, browser: Browser
) -> None:
    """A stolen code is worth nothing: the issuer wants the verifier of the sign-in that it belongs to."""
    stolen = parse_qs(urlsplit(await browser.agree(await browser.begin())).query)["code"][0]
    async with open_browser(identity) as other:
        thief = Browser(other, issuer)
        state = parse_qs(urlsplit(await thief.begin()).query)["state"][0]
        assert_refused(await other.get(CALLBACK, params={"code": stolen, "state": state}), "invalid_grant")


async def test_the_issuer_gets_the_verifier_of_the_challenge(
    identity: IdentityClient, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = identity.shop.get_context("identity").resources.flow
    verifiers = []

    async def exchange(code: str, verifier: str) -> dict[str, Any]:
        verifiers.append(verifier)
        answer: dict[str, Any] = await original(code, verifier)
        return answer

    original = flow._exchange_code
    monkeypatch.setattr(flow, "_exchange_code", exchange)
    page = await browser.begin()
    assert (await browser.shop.get(await browser.agree(page))).status_code == 303
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifiers[0].encode()).digest()).decode().rstrip("=")
    assert parse_qs(urlsplit(page).query)["code_challenge"] == [digest]


@pytest.mark.parametrize(
    "error", ["access_denied", "<script>alert(1)</script>", "Call +44 20 7946 0000 now", "x" * 900]
)
async def test_a_refusal_of_the_issuer_is_shown_without_its_words(
    identity: IdentityClient, browser: Browser, error: str
) -> None:
    state = parse_qs(urlsplit(await browser.begin()).query)["state"][0]
    answer = await browser.shop.get(CALLBACK, params={"state": state, "error": error, "error_description": error})
    assert_refused(answer, "refused it")
    assert (error in answer.text) == (error == "access_denied")


async def test_an_answer_of_another_issuer_is_refused(browser: Browser) -> None:
    back = await browser.agree(await browser.begin())
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    query["iss"] = "https://attacker.example"
    assert_refused(await browser.shop.get(f"{CALLBACK}?{urlencode(query)}"), "not that of the identity provider")


@pytest.mark.parametrize(
    "return_to",
    [
        "https://attacker.example/",
        "//attacker.example/",
        "/\\attacker.example/",
        "\\/attacker.example",
        "/\t/attacker.example",
        "/\n/attacker.example",
        " //attacker.example",
        "javascript:alert(1)",
        "attacker.example",
        "",
        "/x\r\nSet-Cookie: a=b",
        "/v1/auth/login?return_to=/",
        "/ä",
        "/" + "x" * 2000,
    ],
)
async def test_nobody_is_sent_elsewhere(browser: Browser, return_to: str) -> None:
    answer = await browser.shop.get(LOGIN, params={"return_to": return_to})
    assert answer.status_code in (400, 422), answer.text
    assert "location" not in answer.headers


@given(st.text(max_size=40) | st.text(alphabet="/\\.:@?# \t\nabc%", max_size=12))
def test_a_local_path_stays_at_this_host_in_every_reading(text: str) -> None:
    if is_local_path(text):
        for reading in (text, text.replace("\\", "/"), text.strip(), text.translate({9: None, 10: None, 13: None})):
            assert urlsplit(urljoin("https://shop.test/v1/auth/callback", reading)).netloc == "shop.test"
