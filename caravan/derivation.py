"""Derives passwords and keys for single purposes from the master secret."""

import hashlib
import hmac


def derive_secret(secret: str, purpose: str) -> str:
    """A password for one purpose from the master secret."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
