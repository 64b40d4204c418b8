"""A real SMTP conversation: with a server in this process, without one, and with one that refuses."""

import email
import email.policy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from caravan.clock import utc_now
from caravan.runtime import Backends
from services.notifications.providers.smtp import SmtpEmailProvider
from services.notifications.rendering import RenderedMessage
from tests.services.notifications.conftest import ask, back_in_stock, row, text_of
from tests.support.shop import run_services, wait_until


class Inbox:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, _: Any, __: Any, envelope: Any, address: str, ___: Any
    ) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        if address.startswith("gone"):
            return "554 5.1.1 no such user"
        if address.startswith("unwanted"):
            return "550 5.7.1 your server is on a list"
        if address.startswith("busy"):
            return "451 try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


def login(_: Any, __: Any, ___: Any, ____: Any, given: LoginPassword) -> AuthResult:
    return AuthResult(success=given.login == b"shop" and given.password == b"p@ss", handled=False)


@contextmanager
def mail_server(port: int = 0) -> Iterator[tuple[Inbox, int]]:
    inbox = Inbox()
    server = Controller(
        inbox, "127.0.0.1", port or free_port(), authenticator=login, auth_require_tls=False, enable_SMTPUTF8=True
    )
    server.start()
    try:
        yield inbox, server.port
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_message(recipient: str) -> RenderedMessage:
    return RenderedMessage(
        "1" * 32,
        "welcome",
        "x",
        recipient,
        "Grüße",
        "text\n.\n..two\n",
        "<p>html</p>",
        datetime(2026, 1, 1, tzinfo=UTC),
    )


def smtp(port: int, who: str = "") -> SmtpEmailProvider:
    return SmtpEmailProvider(f"smtp://{who}127.0.0.1:{port}", "Caravan <shop@example.com>", 3, utc_now)


async def test_each_letter_gets_its_own_verdict() -> None:
    with mail_server() as (inbox, port):
        recipients = ["ada@example.com", "nobody@example.com", "busy@example.com", "zoë@bücher.example"] * 6
        verdicts = await smtp(port, "shop:p%40ss@").send([make_message(recipient) for recipient in recipients])
    assert [verdict.status for verdict in verdicts] == ["sent", "refused", "again", "sent"] * 6
    assert "550" in (verdicts[1].reason or "")
    assert "451" in (verdicts[2].reason or "")
    assert len(inbox.mails) == 12
    assert text_of(inbox.mails[0]) == "text\n.\n..two\n"


async def test_a_refusal_tells_a_bad_address_from_a_server_that_does_not_want_our_mail() -> None:
    with mail_server() as (_, port):
        who = ("nobody", "gone", "unwanted", "busy", "ada")
        verdicts = await smtp(port, "shop:p%40ss@").send([make_message(f"{name}@example.com") for name in who])
    assert [(verdict.status, verdict.is_bad_address) for verdict in verdicts] == [
        ("refused", True),
        ("refused", True),
        ("refused", False),
        ("again", False),
        ("sent", False),
    ]


@pytest.mark.parametrize("case", ["no server", "wrong password"])
async def test_a_server_that_cannot_be_used_is_down_and_the_letters_are_not_to_blame(case: str) -> None:
    with mail_server() as (_, port):
        provider = smtp(free_port()) if case == "no server" else smtp(port, "shop:wrong@")
        verdicts = await provider.send([make_message("ada@example.com")] * 3)
    assert {verdict.status for verdict in verdicts} <= {"down", "later"}
    assert verdicts[0].status == "down"


async def test_mail_waits_for_a_server_that_is_down_and_is_sent_once_when_it_is_back(
    backends: Backends, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    port = free_port()
    monkeypatch.setenv("NOTIFICATIONS_SMTP_URL", f"smtp://127.0.0.1:{port}")
    command = back_in_stock()
    async with run_services(backends, "notifications", data=tmp_path) as shop:
        await ask(shop, command)

        async def state(expected: str) -> bool:
            found = await row(shop, command.about)
            return bool(found and found["state"] == expected and (expected == "sent" or found["reason"]))

        await wait_until(lambda: state("pending"))
        with mail_server(port) as (inbox, _):
            await wait_until(lambda: state("sent"))
        (mail,) = inbox.mails
        assert mail["subject"] == "Mug is back in stock"
        assert not (tmp_path / "mail").exists()
