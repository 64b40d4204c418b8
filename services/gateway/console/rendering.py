"""Makes HTML of the console's templates. Whatever a template puts in is escaped; `foreign` bounds what others wrote.

Pages load one stylesheet and one script of our own, and the policy lets nothing else in: no inline code, no other host,
no frame around, and no text that a script makes HTML of but pages of ours (trusted types).
"""

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from caravan.money import format_amount
from caravan.printable import escape_unprintable

FOLDER = Path(__file__).parent
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MAX_FOREIGN_LENGTH = 500
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types console",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
TONES = {
    **dict.fromkeys(("created", "reserved", "paid", "shipped", "waiting", "active", "delayed"), "active"),
    **dict.fromkeys(("writing", "sending", "running", "scheduled", "repairing"), "active"),
    **dict.fromkeys(
        ("delivered", "completed", "done", "redriven", "sent", "up", "closed", "identical", "resolved"), "good"
    ),
    **dict.fromkeys(
        ("cancelled", "refunded", "paused", "stopped", "missed", "replaced", "blocked", "degraded", "half-open"), "warn"
    ),
    **dict.fromkeys(("rejected", "payment_failed", "failed", "dead", "down", "open"), "bad"),
}
"""The colour of a state beside its word."""


@cache
def load_asset(name: str) -> bytes | None:
    """A file of `static/`; None where there is none of this name."""
    path = FOLDER / "static" / name
    return (
        path.read_bytes()
        if path.suffix in MEDIA_TYPES and path.parent == FOLDER / "static" and path.is_file()
        else None
    )


@cache
def build_asset_url(name: str) -> str:
    """With a digest of its content, so that a browser may keep it for ever."""
    digest = hashlib.sha256(load_asset(name) or b"").hexdigest()[:12]
    return f"/console/static/{name}?v={digest}"


def format_money(money: dict[str, Any]) -> Markup:
    return Markup('<span class="amount">{}</span> <span class="unit">{}</span>').format(
        format_amount(money["amount"], money["currency"]), money["currency"]
    )


def format_money_text(money: dict[str, Any]) -> str:
    return f"{format_amount(money['amount'], money['currency'])} {money['currency']}"


def format_time(text: str | None) -> Markup | str:
    """A moment in UTC, to the second; the script adds how long ago that was."""
    if not text:
        return "–"
    moment = datetime.fromisoformat(text)
    return Markup('<time datetime="{}" title="{} UTC">{:%d %b %H:%M:%S}</time>').format(text, text, moment)


def format_foreign(text: Any, max_length: int = MAX_FOREIGN_LENGTH) -> str:
    """What somebody else wrote: on one line, visible, and not longer than a page bears."""
    line = escape_unprintable(str(text))
    return line if len(line) <= max_length else line[: max_length - 1] + "…"


def format_label(word: str) -> str:
    return word.replace("_", " ").replace("-", " ")


def end_sentence(text: str) -> str:
    """A reason of the API as a sentence for people."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!', '…')) else '.'}" if text else ""


def mark_state(state: str) -> Markup:
    return Markup('<span class="state {}">{}</span>').format(TONES.get(state, "plain"), format_label(state))


@cache
def _load_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "money": format_money,
        "time": format_time,
        "foreign": format_foreign,
        "label": format_label,
        "sentence": end_sentence,
        "state": mark_state,
    }
    environment.globals["asset"] = build_asset_url
    return environment


def render_response(template: str, status: int = 200, **variables: Any) -> Response:
    content = _load_environment().get_template(template).render(**variables)
    return Response(content, status, {**SECURITY_HEADERS, "Cache-Control": "no-store"}, "text/html")
