"""Passwords and keys for single purposes, from the one secret of a shop."""

import hashlib
import hmac


def derive_secret(secret: str, purpose: str) -> str:
    """A password for one purpose from the master secret."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
