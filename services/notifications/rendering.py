"""Renders a message (subject, text and HTML) from the templates of its kind, which are compiled once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateNotFound, select_autoescape

from caravan.money import Money

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class InlinePicture:
    """A PNG that the HTML of a mail shows as `cid:<name>`."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """A message ready for a provider. `key` is the same at each attempt; `headers` and `pictures` are for e-mail."""

    key: str
    kind: str
    dedup_key: str
    recipient: str
    subject: str
    text: str
    html: str
    created_at: datetime
    headers: tuple[tuple[str, str], ...] = ()
    pictures: tuple[InlinePicture, ...] = ()


def format_money(value: Mapping[str, Any]) -> str:
    """`{"amount": 123456, "currency": "GBP"}` is `1,234.56 GBP`; exact, with as many decimals as the currency has."""
    return _format_amount(value["amount"], value["currency"])


@lru_cache(maxsize=1024)
def _format_amount(amount: int, currency: str) -> str:
    return str(Money(amount=amount, currency=currency))


def to_one_line(value: object) -> str:
    """Free text from outside, on one line: it can't begin paragraphs of its own."""
    return " ".join(str(value).split())


def format_time(value: object) -> str:
    """An RFC 3339 time for people; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone(UTC):%d %B %Y, %H:%M} UTC".lstrip("0")
    except ValueError:
        return to_one_line(value)


def format_day(value: object) -> str:
    """An ISO day for people; anything else as it is."""
    try:
        return f"{date.fromisoformat(str(value)):%d %B %Y}".lstrip("0")
    except ValueError:
        return to_one_line(value)


PAYMENT_REASONS = {
    "card_declined": "your bank declined the card",
    "insufficient_funds": "your bank declined the card",
    "expired_card": "the card has expired",
    "invalid_token": "the means of payment is not valid",
}
CANCELLATION_REASONS = {
    "reservation expired": "we could not keep the goods for you any longer",
    "expired": "we could not keep the goods for you any longer",
}
_UNKNOWN_PAYMENT_REASON = "the payment was not accepted"


def explain_payment_failure(code: object) -> str:
    """A payment provider's code in the reader's words; what we have no words for is not quoted."""
    return PAYMENT_REASONS.get(str(code), _UNKNOWN_PAYMENT_REASON)


def explain_cancellation(reason: object) -> str:
    """Why the shop itself cancelled; empty for a text that somebody wrote, because no mail carries foreign text to an
    address that may not be the writer's.
    """
    return CANCELLATION_REASONS.get(str(reason), "")


RECOMMENDATION_REASONS = {
    "bought_together": "Goes with what you bought",
    "bought_again": "You bought it before",
    "popular_in_category": "Popular among what you like",
}


def explain_recommendation(item: Mapping[str, Any]) -> str:
    """Why an item is recommended, in the reader's words."""
    return RECOMMENDATION_REASONS.get(str(item["rule"]), "Popular in the shop")


def _create_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.clear()  # no template calls one, and each mail would go through their names
    environment.filters["money"] = format_money
    environment.filters["line"] = to_one_line
    environment.filters["moment"] = format_time
    environment.filters["day"] = format_day
    environment.filters["payment_reason"] = explain_payment_failure
    environment.filters["recommendation_reason"] = explain_recommendation
    environment.filters["cancel_reason"] = explain_cancellation
    return environment


_template_environment = _create_environment()


@cache
def _load_templates(kind: str) -> tuple[Template, Template | None]:
    try:
        return _template_environment.get_template(f"{kind}.txt"), _template_environment.get_template(f"{kind}.html")
    except TemplateNotFound as error:
        if error.name == f"{kind}.html":
            return _template_environment.get_template(f"{kind}.txt"), None
        raise


def render_templates(kind: str, values: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text and HTML (empty where the kind has none)."""
    plain, rich = _load_templates(kind)
    subject, _, text = _render(plain, values).partition("\n")
    return to_one_line(subject), text.strip() + "\n", _render(rich, values) if rich else ""


def _render(template: Template, values: dict[str, Any]) -> str:
    """As `Template.render`, without copying the values."""
    return "".join(template.root_render_func(template.new_context(values, shared=True)))
