"""What a message says: subject, text and HTML of a kind from its templates, compiled once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateNotFound, select_autoescape

from caravan.money import Money

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready for a provider. `key` is the same at each attempt; `headers` are for e-mail."""

    key: str
    kind: str
    about: str
    recipient: str
    subject: str
    text: str
    html: str
    made_at: datetime
    headers: tuple[tuple[str, str], ...] = ()


def money(value: Mapping[str, Any]) -> str:
    """`{"amount": 123456, "currency": "GBP"}` is `1,234.56 GBP`; exact, with as many decimals as the currency has."""
    return str(Money(amount=value["amount"], currency=value["currency"]))


def one_line(value: object) -> str:
    """Free text from outside, on one line: it can't begin paragraphs of its own."""
    return " ".join(str(value).split())


def moment(value: object) -> str:
    """An RFC 3339 time for people; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone(UTC):%d %B %Y, %H:%M} UTC".lstrip("0")
    except ValueError:
        return one_line(value)


PAYMENT_WORDS = {
    "card_declined": "your bank declined the card",
    "insufficient_funds": "your bank declined the card",
    "expired_card": "the card has expired",
    "invalid_token": "the means of payment is not valid",
}
ORDER_WORDS = {
    "reservation expired": "we could not keep the goods for you any longer",
    "expired": "we could not keep the goods for you any longer",
}
_NOT_PAID = "the payment was not accepted"


def payment_reason(code: object) -> str:
    """A payment provider's code in the reader's words; what we have no words for is not quoted."""
    return PAYMENT_WORDS.get(str(code), _NOT_PAID)


def cancel_reason(reason: object) -> str:
    """Why the shop itself cancelled; empty for a text that somebody wrote, because no mail carries foreign text to an address that may not be the writer's."""
    return ORDER_WORDS.get(str(reason), "")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["money"] = money
    environment.filters["line"] = one_line
    environment.filters["moment"] = moment
    environment.filters["payment_reason"] = payment_reason
    environment.filters["cancel_reason"] = cancel_reason
    return environment


_templates = _environment()


@cache
def _pair(kind: str) -> tuple[Template, Template | None]:
    try:
        return _templates.get_template(f"{kind}.txt"), _templates.get_template(f"{kind}.html")
    except TemplateNotFound as error:
        if error.name == f"{kind}.html":
            return _templates.get_template(f"{kind}.txt"), None
        raise


def render(kind: str, values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Subject, text and HTML (empty where the kind has none)."""
    plain, rich = _pair(kind)
    subject, _, text = plain.render(values).partition("\n")
    return one_line(subject), text.strip() + "\n", rich.render(values) if rich else ""
