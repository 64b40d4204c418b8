"""Short messages through an HTTP gateway: a real one in a process of its own, and none."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from caravan.clock import new_id
from caravan.runtime import Backends
from services.notifications.providers import sms
from services.notifications.providers.protocol import SendResult
from services.notifications.providers.sms import HttpSmsProvider
from services.notifications.rendering import RenderedMessage
from services.notifications.settings import Settings
from tests.services.notifications.conftest import ask, back_in_stock, row
from tests.services.notifications.sms_gateway import ACCOUNT, ANSWERS, CUT_OFF, ENDLESS, PATH, SILENT, TOKEN
from tests.support.program import ROOT
from tests.support.shop import run_services, wait_until

NUMBER, SENDER = "+447700900123", "+447700900000"


@dataclass
class Gateway:
    port: int
    http: httpx2.AsyncClient

    def build_url(self, token: str = TOKEN, path: str = PATH) -> str:
        return f"http://{ACCOUNT}:{quote(token, safe='')}@127.0.0.1:{self.port}{path}"

    async def list_sent(self) -> list[dict[str, str]]:
        sent: list[dict[str, str]] = (await self.http.get(f"http://127.0.0.1:{self.port}/messages")).json()
        return sent

    async def send(self, *messages: RenderedMessage, sender: str = SENDER, **address: str) -> list[SendResult]:
        return await HttpSmsProvider(self.build_url(**address), sender, 3, self.http).send(messages)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.services.notifications.sms_gateway", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        async with httpx2.AsyncClient(timeout=30) as http:
            yield Gateway(port, http)
    finally:
        process.kill()
        await process.wait()


def make_message(number: str = NUMBER, key: str = "", subject: str = "Grüße & £5") -> RenderedMessage:
    key = key or new_id().hex
    return RenderedMessage(key, "welcome", "x", number, subject, "", "", datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_message_is_posted_as_a_form_and_sent_once_however_often_it_comes(gateway: Gateway) -> None:
    message = make_message()
    for _ in range(3):
        assert [result.status for result in await gateway.send(message)] == ["sent"]
    assert await gateway.list_sent() == [{"To": NUMBER, "From": SENDER, "Body": "Grüße & £5", "key": message.key}]


async def test_a_messaging_service_is_named_instead_of_a_number(gateway: Gateway) -> None:
    await gateway.send(make_message(), sender=f"MG{'0' * 32}")
    (sent,) = await gateway.list_sent()
    assert (sent["MessagingServiceSid"], sent.get("From")) == ("MG" + "0" * 32, None)


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        ("+440000400", "refused", "400 21211 Invalid 'To' Phone Number"),
        ("+440000422", "refused", "422"),
        ("+440000201", "refused", "failed: error 30006"),
        ("+440000500", "again", "500 oops"),
        ("+440000429", "down", "429 20429 Too Many Requests"),
        ("+440000503", "down", "503"),
        ("+440000302", "down", "302"),
    ],
)
async def test_an_answer_says_whose_fault_it_is(gateway: Gateway, number: str, status: str, reason: str) -> None:
    assert set(ANSWERS) >= {number}
    assert await gateway.send(make_message(number)) == [SendResult(status, reason)]  # type: ignore[arg-type]
    assert await gateway.list_sent() == []


async def test_a_refused_message_holds_up_no_other(gateway: Gateway) -> None:
    numbers = ["+440000400", NUMBER, "+440000500", NUMBER] * 5
    results = await gateway.send(*(make_message(number) for number in numbers))
    assert [result.status for result in results] == ["refused", "sent", "again", "sent"] * 5
    assert len(await gateway.list_sent()) == 10


@pytest.mark.parametrize("address", [{"token": "wrong"}, {"path": "/elsewhere"}])
async def test_a_wrong_account_is_no_fault_of_the_messages(gateway: Gateway, address: dict[str, str]) -> None:
    results = await gateway.send(*(make_message() for _ in range(20)), **address)
    assert {result.status for result in results} == {"down", "later"}
    assert sum(result.status == "down" for result in results) <= 3, "it is not asked again and again"


async def test_a_gateway_that_does_not_listen_is_down() -> None:
    async with httpx2.AsyncClient() as http:
        provider = HttpSmsProvider("http://a:b@127.0.0.1:1/x", SENDER, 1, http)
        assert [result.status for result in await provider.send([make_message()] * 2)] == ["down", "later"]


@pytest.mark.parametrize("number", [SILENT, CUT_OFF])
async def test_a_message_of_which_no_answer_came_is_sent_once_when_it_comes_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setattr(sms, "REQUEST_SECONDS", 0.5)
    message = make_message(number)
    assert [result.status for result in await gateway.send(message)] == ["again"]
    assert [result.status for result in await gateway.send(message)] == ["sent"]
    assert [sent["key"] for sent in await gateway.list_sent()] == [message.key]


async def test_an_answer_without_end_is_not_read_to_its_end_and_what_was_taken_counts(gateway: Gateway) -> None:
    began = asyncio.get_running_loop().time()
    assert [result.status for result in await gateway.send(make_message(ENDLESS))] == ["sent"]
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_user_who_prefers_it_gets_a_short_message_from_the_gateway(
    backends: Backends, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFICATIONS_SMS_URL", gateway.build_url())
    monkeypatch.setenv("NOTIFICATIONS_SMS_SENDER", "Caravan")
    user = new_id()
    async with run_services(backends, "notifications", data=tmp_path) as shop:
        preference = {"channel": "sms", "phone": NUMBER}
        await shop.client.patch("/v1/users/me/preferences", json=preference, headers=shop.issue_headers(user_id=user))
        command = back_in_stock(user)
        await ask(shop, command)

        async def is_sent() -> Any:
            found = await row(shop, command.about)
            return found if found and found["state"] == "sent" else None

        assert (await wait_until(is_sent))["channel"] == "sms"
    (sent,) = await gateway.list_sent()
    assert (sent["To"], sent["From"], sent["Body"]) == (NUMBER, "Caravan", "Mug is back in stock")
    assert not (tmp_path / "sms.jsonl").exists()


@pytest.mark.parametrize(
    ("url", "sender", "reason"),
    [
        ("ftp://a:b@host", "Caravan", "must be a URL that begins with https://"),
        ("https://a:b@host/x", None, "needs NOTIFICATIONS_SMS_SENDER"),
        ("https://a:b@host/x", "a name that is too long", "sms_sender"),
    ],
)
def test_a_gateway_that_can_not_be_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, url: str, sender: str | None, reason: str
) -> None:
    monkeypatch.setenv("NOTIFICATIONS_SMS_URL", url)
    if sender:
        monkeypatch.setenv("NOTIFICATIONS_SMS_SENDER", sender)
    with pytest.raises(ValueError, match=reason):
        Settings()
