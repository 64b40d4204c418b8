"""Cryptography by libraries: argon2id in a thread pool of its own, Ed25519 keys and their encryption, and the tokens
signed with them.
"""

import asyncio
import secrets
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwt
from joserfc.jwk import OKPKey
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from caravan.errors import CapacityExceeded
from services.identity.settings import Settings

MAX_PENDING = 64
NONCE_BYTES = 12


class PasswordHasher:
    """Argon2id, a few at a time, because each takes a core and 64 MiB; beyond `MAX_PENDING` callers are refused."""

    def __init__(self, settings: Settings) -> None:
        self._password_hash = PasswordHash((Argon2Hasher(settings.argon2_passes, settings.argon2_memory_kib, 1),))
        self._threads = ThreadPoolExecutor(settings.argon2_concurrency, thread_name_prefix="argon2")
        self._pending = 0
        self._dummy_hash = self._password_hash.hash(secrets.token_urlsafe())

    async def hash_password(self, password: str) -> str:
        hashed: str = await self._run_in_thread(self._password_hash.hash, password)
        return hashed

    async def verify_password(self, password: str, hashed: str | None) -> tuple[bool, str | None]:
        """Whether the password is right, and a new hash when the parameters have changed. None costs as much time as a
        wrong password.
        """
        is_right, new_hash = await self._run_in_thread(
            self._password_hash.verify_and_update, password, hashed or self._dummy_hash
        )
        return (is_right, new_hash) if hashed else (False, None)

    async def _run_in_thread(self, function: Any, *arguments: str) -> Any:
        if self._pending >= MAX_PENDING:
            raise CapacityExceeded("too many sign-ins at this moment; try again", retry_after=2)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._pending -= 1

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def seal_text(text: str, key: bytes) -> str:
    """A text for a cookie or a column that only this shop can read, and nobody can alter."""
    return Fernet(urlsafe_b64encode(key)).encrypt(text.encode()).decode()


def open_sealed_text(sealed: str, key: bytes, max_age_seconds: int | None = None) -> str:
    """Empty for what this key did not seal, or too long ago."""
    try:
        return Fernet(urlsafe_b64encode(key)).decrypt(sealed.encode(), max_age_seconds).decode()
    except (InvalidToken, UnicodeEncodeError):
        return ""


def generate_key(kid: str) -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid, "use": "sig", "alg": "EdDSA"})


def export_public_part(key: OKPKey) -> dict[str, Any]:
    return dict(key.as_dict(private=False))


def seal_key(key: OKPKey, kid: str, secret: bytes) -> bytes:
    """The private part under AES-256-GCM, bound to its key id."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, key.as_der(private=True), kid.encode())


def unseal_key(sealed: bytes, kid: str, secret: bytes) -> OKPKey | None:
    """The private key, or None when it was sealed with another secret."""
    try:
        der = AESGCM(secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], kid.encode())
    except InvalidTag:
        return None
    return OKPKey.import_key(der, {"kid": kid})


def sign_token(claims: dict[str, Any], key: OKPKey, kid: str) -> str:
    return jwt.encode({"alg": "EdDSA", "kid": kid, "typ": "at+jwt"}, claims, key, algorithms=["EdDSA"])
