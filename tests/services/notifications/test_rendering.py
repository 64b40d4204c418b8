"""What mails look like, read back with the standard library; and that no value breaks out of its place."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications import mime
from services.notifications.model import (
    KINDS,
    NotificationKind,
    build_provider_key,
)
from services.notifications.rendering import RenderedMessage, format_money, render_templates
from services.notifications.settings import Settings
from services.notifications.signatures import build_unsubscribe_token, parse_unsubscribe_token
from tests.services.notifications.conftest import text_of

MONEY = {"amount": 1999, "currency": "GBP"}
EVERYTHING = {
    "about": "order-1",
    "base": "https://shop.example",
    "unsubscribe": "https://shop.example/v1/notifications/unsubscribe/x",
    "name": "Zoë Ångström",
    "customer_name": "Zoë",
    "total": MONEY,
    "refunded": MONEY,
    "price": MONEY,
    "previous_price": {"amount": 2999, "currency": "GBP"},
    "reason": "no stock",
    "carrier": "DHL",
    "tracking_number": "T1",
    "parcels": [{"sku": "MUG", "quantity": 2}],
    "link": "https://shop.example/reset?a=1&b=2",
    "minutes": 30,
    "days": 3,
    "at": "2026-03-01T10:00:00.123456Z",
    "sku": "MUG",
    "campaign_id": "01990000-0000-7000-8000-000000000000",
}


def make_message(
    subject: str = "Hello", text: str = "text\n", html: str = "<p>html</p>", recipient: str = "ada@example.com"
) -> RenderedMessage:
    return RenderedMessage("0" * 32, "welcome", "x", recipient, subject, text, html, datetime(2026, 1, 1, tzinfo=UTC))


def parsed(written: RenderedMessage, sender: str = "Caravan <shop@example.com>") -> EmailMessage:
    return email.message_from_bytes(
        mime.compose_mail(written, sender, "Thu, 01 Jan 2026 00:00:00 +0000"), policy=email.policy.default
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_each_kind_renders_with_all_its_values_and_with_only_those_it_needs(kind: NotificationKind) -> None:
    always = {"about", "base", "unsubscribe"}
    for names in ({*kind.required_values, *kind.optional_values}, set(kind.required_values)):
        content = {"subject": "Tea", "text": "Half price."} if kind.name == "campaign" else {}
        values = (
            content
            | {name: EVERYTHING[name] for name in names | always}
            | dict.fromkeys(set(kind.optional_values) - names)
        )
        subject, text, html = render_templates(kind.name, values)
        assert subject
        assert "None" not in subject + text + html
        assert text.strip()
        assert bool(html) == (kind.channel != "log")
        mail = parsed(make_message(subject, text, html))
        assert mail["subject"] == subject
        assert not mail.defects
        assert text_of(mail).rstrip() == text.rstrip()
        assert text_of(mail, "html").rstrip() == html.rstrip()


def test_a_mail_has_text_and_html_and_says_who_what_and_when() -> None:
    mail = parsed(make_message("Grüße aus Zürich", "Grüße €\n", "<p>Grüße €</p>", "zoë@bücher.example"))
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert (mail["subject"], mail["from"], mail["to"]) == (
        "Grüße aus Zürich",
        "Caravan <shop@example.com>",
        "zoë@xn--bcher-kva.example",
    )
    assert mail["message-id"] == f"<{'0' * 32}@example.com>"
    assert mail["date"].datetime == datetime(2026, 1, 1, tzinfo=UTC)


@given(st.text(max_size=150))
def test_any_subject_reads_back_and_stays_in_its_header(subject: str) -> None:
    mail = parsed(make_message(subject))
    assert mail.keys() == parsed(make_message()).keys()
    spaces = str.maketrans(dict.fromkeys([*range(32), *range(127, 160), 0x2028, 0x2029], " "))
    expected = " ".join(subject.encode("utf-8", "replace").decode().translate(spaces).split())
    assert " ".join(str(mail["subject"]).split()) == expected
    assert all(len(line) <= 998 for line in mime.compose_mail(make_message(subject), "a <a@b.c>", "x").split(b"\r\n"))


@given(st.text(max_size=300))
def test_any_text_reads_back_and_stays_in_its_part(text: str) -> None:
    mail = parsed(make_message(text=text, html=text))
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    expected = text.encode("utf-8", "replace").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for part in mail.iter_parts():
        got = part.get_payload(decode=True)
        assert isinstance(got, bytes)
        assert got.replace(b"\r\n", b"\n") == expected


@given(st.text(max_size=80))
def test_a_name_can_neither_add_headers_nor_markup_nor_paragraphs(name: str) -> None:
    evil = f"{name}\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script>"
    subject, text, html = render_templates("welcome", EVERYTHING | {"name": evil})
    mail = parsed(make_message(subject, text, html))
    assert mail["bcc"] is None
    assert "<script>" not in html
    assert text.split("\n")[0].startswith("Hello")
    assert "Bcc:" in text.split("\n")[0]


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (0, "GBP", "0.00 GBP"),
        (-5, "GBP", "-0.05 GBP"),
        (1234567890, "EUR", "12,345,678.90 EUR"),
        (500, "JPY", "500 JPY"),
        (1234567, "KWD", "1,234.567 KWD"),
    ],
)
def test_money_is_shown_exactly_with_the_decimals_of_its_currency(amount: int, currency: str, shown: str) -> None:
    assert format_money({"amount": amount, "currency": currency}) == shown


def test_a_security_mail_says_when() -> None:
    assert "changed on 1 March 2026, 10:00 UTC, and" in render_templates("password_changed", EVERYTHING)[1]
    assert "changed on yesterday, and" in render_templates("password_changed", EVERYTHING | {"at": "yesterday"})[1]


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_shown_money_is_the_same_amount(amount: int) -> None:
    assert (
        int(format_money({"amount": amount, "currency": "GBP"}).removesuffix(" GBP").replace(",", "").replace(".", ""))
        == amount
    )


@given(st.uuids(), st.uuids())
def test_an_unsubscribe_token_is_for_one_user_and_one_secret(user: UUID, other: UUID) -> None:
    token = build_unsubscribe_token("secret", user, "alerts")
    assert parse_unsubscribe_token("secret", token) == (user, "alerts")
    assert parse_unsubscribe_token("another", token) is None
    if other != user:
        assert token != build_unsubscribe_token("secret", other, "alerts")


def test_the_providers_key_is_the_pairs_own() -> None:
    assert (
        build_provider_key("a", "welcome")
        == build_provider_key("a", "welcome")
        != build_provider_key("b", "welcome")
        != build_provider_key("a", "session_reuse")
    )


@pytest.mark.parametrize("url", ["http://host", "smtp://", "smtp://host:0"])
def test_a_mail_server_that_is_no_smtp_url_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("NOTIFICATIONS_SMTP_URL", url)
    with pytest.raises(ValueError, match=r"must be a URL that begins with smtp://"):
        Settings()
