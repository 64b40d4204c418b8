"""Who is signed in to the console: the shop's own tokens in a sealed cookie, and their renewal.

No server keeps a session: every replica of the gateway reads the cookie with a key from the shop's secret, and a script
of a page can't. `write_session` makes the cookie, whichever way somebody has signed in.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass, replace
from secrets import token_urlsafe

import orjson
from cryptography.fernet import Fernet, InvalidToken
from fastapi.responses import Response

from caravan.auth import Role
from caravan.derivation import derive_secret

COOKIE_PATH = "/console"
SESSION_COOKIE = "caravan-console"
NOTICE_COOKIE = "caravan-console-notice"
NOTICE_SECONDS = 60
DISCLOSURE_COOKIE = "caravan-console-disclosure"
DISCLOSURE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Session:
    """`id` is the console's own, and stays when the tokens are renewed; `expires_at` is that of the access token."""

    id: str
    access_token: str
    refresh_token: str
    expires_at: float
    role: Role
    name: str

    def renew_tokens(self, access_token: str, refresh_token: str, expires_at: float, role: Role) -> "Session":
        return replace(self, access_token=access_token, refresh_token=refresh_token, expires_at=expires_at, role=role)


def create_session(access_token: str, refresh_token: str, expires_at: float, role: Role, name: str) -> Session:
    """A new one, for somebody who has just signed in."""
    return Session(token_urlsafe(18), access_token, refresh_token, expires_at, role, name)


class SessionSeal:
    """Seals what a cookie holds, and derives the token that a session's forms carry."""

    def __init__(self, secret: str, *, is_https: bool) -> None:
        self._fernet = Fernet(urlsafe_b64encode(bytes.fromhex(derive_secret(secret, "console sessions"))))
        self._form_key = derive_secret(secret, "console forms").encode()
        self._is_https = is_https

    def write_session(self, response: Response, session: Session) -> None:
        self._set_cookie(response, SESSION_COOKIE, self.seal_session(session))

    def seal_session(self, session: Session) -> str:
        return self._fernet.encrypt(orjson.dumps(asdict(session))).decode()

    def read_session(self, text: str) -> Session | None:
        content = self._open(text)
        return Session(**orjson.loads(content)) if content else None

    def delete_session(self, response: Response) -> None:
        response.delete_cookie(SESSION_COOKIE, path=COOKIE_PATH)

    def write_notice(self, response: Response, text: str) -> None:
        """What the next page says on top, once."""
        self._set_cookie(response, NOTICE_COOKIE, self._fernet.encrypt(text.encode()).decode(), NOTICE_SECONDS)

    def read_notice(self, text: str) -> str:
        return self._open(text, NOTICE_SECONDS).decode()

    def write_disclosure(self, response: Response, session: Session, subject: str) -> None:
        """Whose personal data this session sees for a few minutes."""
        content = self._fernet.encrypt(f"{session.id} {subject}".encode()).decode()
        self._set_cookie(response, DISCLOSURE_COOKIE, content, DISCLOSURE_SECONDS)

    def read_disclosure(self, session: Session, text: str) -> str:
        owner, _, subject = self._open(text, DISCLOSURE_SECONDS).decode().partition(" ")
        return subject if owner == session.id else ""

    def derive_form_token(self, session: Session) -> str:
        return hmac.new(self._form_key, session.id.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, session: Session, given: str) -> bool:
        return hmac.compare_digest(self.derive_form_token(session).encode(), given.encode())

    def _open(self, text: str, max_age_seconds: int | None = None) -> bytes:
        try:
            return self._fernet.decrypt(text.encode(), ttl=max_age_seconds) if text else b""
        except (InvalidToken, UnicodeEncodeError):
            return b""

    def _set_cookie(self, response: Response, name: str, value: str, max_age: int | None = None) -> None:
        response.set_cookie(
            name, value, max_age, path=COOKIE_PATH, secure=self._is_https, httponly=True, samesite="strict"
        )
