"""What mails look like, read back with the standard library; and that no value breaks out of its place."""

import email
import email.policy
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications import mime
from services.notifications.model import (
    KINDS,
    MONEY_VALUES,
    NotificationKind,
    build_provider_key,
)
from services.notifications.rendering import RenderedMessage, format_money, render_templates
from services.notifications.settings import Settings
from services.notifications.signatures import build_link_token, parse_link_token
from tests.services.notifications.conftest import text_of

MONEY = {"amount": 1999, "currency": "GBP"}
EVERYTHING: dict[str, Any] = {
    "about": "order-1",
    "base": "https://shop.example",
    "unsubscribe": "https://shop.example/v1/notifications/unsubscribe/x",
    "preferences": "https://shop.example/v1/notifications/preferences/x",
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
    "items": [{"sku": "POT", "name": "Teapot", "rule": "bought_together", "because": "MUG"}],
    "day": "2026-03-09",
    "orders": 3,
    "states": {"delivered": 2, "cancelled": 1},
    "sales": [{"currency": "GBP", "revenue": 1999, "captured": 2500, "refunded": 501, "paid": 2, "units": 4}],
    "history": {"GBP": [{"day": "2026-03-08", "revenue": -5}, {"day": "2026-03-09", "revenue": 1999}]},
    "campaign_id": "01990000-0000-7000-8000-000000000000",
}


FIGURES = {"states", "sales", "history"}
"""Values of the daily report that hold others."""


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
    always = {"about", "base", "unsubscribe", "preferences"}
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
    token = build_link_token("secret", user, "alerts")
    assert parse_link_token("secret", token) == (user, "alerts")
    assert parse_link_token("another", token) is None
    if other != user:
        assert token != build_link_token("secret", other, "alerts")


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


class Reader(HTMLParser):
    """What a mail says and where its links lead, as a person sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.links, self.tags, self._hidden = "", list[str](), list[tuple[str, dict[str, str | None]]](), 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.text += f" {found.get('alt') or ''} "
        self.tags.append((tag, found))
        self._hidden += tag in ("style", "title") or "display:none" in (found.get("style") or "")
        if tag == "a":
            self.links.append(found["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag in ("style", "title", "div"):
            self._hidden -= 1

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def render_kind(kind: NotificationKind, **changes: Any) -> tuple[str, str, str]:
    content = {"subject": "Tea", "text": "Half price.\n\nOnly today."} if kind.name == "campaign" else {}
    return render_templates(kind.name, EVERYTHING | content | changes)


MAILED = [kind for kind in KINDS.values() if kind.channel != "log"]


@pytest.mark.parametrize("kind", MAILED, ids=lambda kind: kind.name)
def test_text_and_html_say_the_same_and_lead_to_the_same_places(kind: NotificationKind) -> None:
    _, text, html = render_kind(kind)
    reader = Reader()
    reader.feed(html)
    assert set(re.findall(r"https://\S+?(?=[.,]?(?:\s|$))", text)) == set(reader.links)
    names = {*kind.required_values, *kind.optional_values} - {"campaign_id", "link", "parcels", "reason"} - FIGURES
    shown = {name: str(EVERYTHING[name]) for name in names if isinstance(EVERYTHING[name], str | int)}
    shown |= {name: format_money(EVERYTHING[name]) for name in names if isinstance(EVERYTHING[name], dict)}
    shown.pop("at", None)
    for name, value in shown.items():
        assert (value in text) == (value in reader.text), name
    words = set(re.findall(r"\w+", text.rpartition("\n--\n")[0])) - set(re.findall(r"\w+", reader.text))
    assert words <= set(re.findall(r"\w+", " ".join(reader.links))) | {"x"}, (
        "the text says nothing that the HTML doesn't"
    )


@pytest.mark.parametrize("kind", MAILED, ids=lambda kind: kind.name)
def test_a_mail_is_readable_on_a_phone_in_the_dark_and_without_anything_from_outside(kind: NotificationKind) -> None:
    html = render_kind(kind)[2]
    reader = Reader()
    reader.feed(html)
    meta = {found.get("name"): found.get("content") for tag, found in reader.tags if tag == "meta"}
    assert (meta["viewport"], meta["color-scheme"]) == ("width=device-width, initial-scale=1", "light dark")
    assert "@media (prefers-color-scheme: dark)" in html
    for tag, found in reader.tags:
        assert tag not in ("script", "link", "iframe", "form", "object"), tag
        assert not found.get("src") or found.get("alt") is not None, "a picture says in words what it shows"
        assert tag != "table" or found.get("role") == "presentation", "a table that is no data is not read out as one"
        width = re.search(r"(?<!-)width:(\d+)px", found.get("style") or "")
        assert not width and not (found.get("width") or "").isdigit(), "nothing is wider than a phone"
    assert "url(" not in html and "@import" not in html
    assert len(html.encode()) < 8_000, "mail readers cut long mails"


@pytest.mark.parametrize("kind", MAILED, ids=lambda kind: kind.name)
def test_no_value_of_a_mail_becomes_markup(kind: NotificationKind) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    names = (
        {*kind.required_values, *kind.optional_values} - MONEY_VALUES - FIGURES - {"parcels", "campaign_id", "items"}
    )
    changes: dict[str, Any] = dict.fromkeys(names, evil) | {"parcels": [{"sku": evil, "quantity": 1}]}
    if kind.name == "campaign":
        changes |= {"subject": evil, "text": evil, "items": [{"name": evil, "rule": evil}]}
    if kind.name == "daily_report":
        changes |= {"states": {evil: evil}, "history": {}}
    reader = Reader()
    reader.feed(render_kind(kind, **changes)[2])
    assert "img" not in [tag for tag, _ in reader.tags]
    assert not [found for _, found in reader.tags if "onerror" in found]


def test_a_security_mail_has_no_link_to_preferences_and_all_others_have() -> None:
    for kind in MAILED:
        link = None if kind.category == "security" else EVERYTHING["preferences"]
        assert ("Choose which mails" in render_kind(kind, preferences=link)[2]) == (kind.category != "security")
