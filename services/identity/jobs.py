"""Rows that have served their time."""

from datetime import timedelta

from services.identity.store import attempts, resets, sessions
from services.identity.use_cases.keys import Identity

KEPT = timedelta(days=1)
"""Beyond their end, for whoever looks into an incident."""


async def prune(context: Identity) -> bool:
    now = context.clock()
    await sessions.prune(context.database, now - KEPT)
    await resets.prune(context.database, now - KEPT)
    await attempts.prune(context.database, now)
    return False
