"""What carries a signature of ours instead of a login: the links in mails, and what mail providers report.

The use cases make the links, the API checks both.
"""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

LinkPurpose = Literal["alerts", "promotions", "preferences"]
"""A link ends the mails of a category, or leads to the page of all preferences."""
REPORT_SECONDS = 300
"""A report is no older than this, so that a copy of it is of no use later."""


def build_link_token(secret: str, user_id: UUID, purpose: LinkPurpose) -> str:
    """What a link in a mail carries: it works without a login, and only for that user and purpose."""
    return base64.urlsafe_b64encode(user_id.bytes + _sign_token(secret, user_id, purpose)).decode().rstrip("=")


def parse_link_token(secret: str, token: str) -> tuple[UUID, LinkPurpose] | None:
    """Whose token it is, and what for; None when we did not make it."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(content) != 32:
        return None
    user_id = UUID(bytes=content[:16])
    return next(
        (
            (user_id, purpose)
            for purpose in get_args(LinkPurpose)
            if hmac.compare_digest(content[16:], _sign_token(secret, user_id, purpose))
        ),
        None,
    )


def _sign_token(secret: str, user_id: UUID, purpose: LinkPurpose) -> bytes:
    return hmac.digest(secret.encode(), user_id.bytes + purpose.encode(), "sha256")[:16]


def sign_report(secret: str, body: bytes, sent_at: int) -> str:
    """The value of the header that a provider's report carries: `t=<unix seconds>,v1=<hex HMAC-SHA256>` over
    `<t>.<body>`.
    """
    signature = hmac.new(secret.encode(), str(sent_at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={sent_at},v1={signature}"


def is_signed_report(secret: str, header: str, body: bytes, now: datetime) -> bool:
    """Whether a report comes from who knows the secret, and just now."""
    sent_at = header.partition(",")[0].removeprefix("t=")
    if not (sent_at.isascii() and sent_at.isdecimal() and len(sent_at) < 16):
        return False
    is_recent = abs(now.timestamp() - int(sent_at)) <= REPORT_SECONDS
    return is_recent and hmac.compare_digest(
        header.encode(errors="replace"), sign_report(secret, body, int(sent_at)).encode()
    )
