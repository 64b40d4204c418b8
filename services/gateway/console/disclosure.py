"""Writes into the audit log that somebody has asked to see the personal data of an order or a user."""

from caravan.client import authorization
from services.gateway.console.session import Session
from services.gateway.use_cases import GatewayContext
from services.identity.client import RECORD_DISCLOSURE, Disclosure


async def record_disclosure(context: GatewayContext, session: Session, subject: str) -> None:
    """Raises when it can't be recorded: then nothing is shown."""
    previous = authorization.set(f"Bearer {session.access_token}")
    try:
        await context.call(RECORD_DISCLOSURE, Disclosure(subject=subject))
    finally:
        authorization.reset(previous)
