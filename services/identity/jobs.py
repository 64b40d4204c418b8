"""Deletes expired rows."""

from datetime import timedelta

from services.identity.store import attempts, external, resets, sessions
from services.identity.use_cases.keys import IdentityContext

RETENTION = timedelta(days=1)
"""Beyond their end, for whoever looks into an incident."""


async def purge_expired(context: IdentityContext) -> bool:
    now = context.clock()
    await sessions.purge_expired(context.database, now - RETENTION)
    await resets.purge_expired(context.database, now - RETENTION)
    await attempts.purge_expired(context.database, now)
    await external.purge_expired(context.database, now)
    return False
