"""How long handled messages and stored answers are known, and their removal when their time has come.

`runtime/periodic.py` calls it each minute for every database that has the kernel's tables.
"""

from datetime import datetime, timedelta

from caravan.database.query import StatementExecutor

INBOX_RETENTION = timedelta(days=14)
"""How long a handled message is known. Longer than a new reader of a topic goes back (`NEW_READER_AGE`). Topics of read
models keep messages for years: no group may be reset to before this. A record of the audit log is known by its own
primary key, without a time limit.
"""
_PURGE_ROWS = 5_000
"""At a time: what a stop of days left behind is removed in many short statements."""
# By place, as a join would read the whole table beside the few that have expired.
_PURGE_INBOX = f"""
    WITH expired AS (SELECT ctid FROM inbox WHERE handled_at < $1 LIMIT {_PURGE_ROWS})
    DELETE FROM inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM expired))
"""
_PURGE_IDEMPOTENCY = f"""
    WITH expired AS (SELECT ctid FROM idempotency WHERE expires_at < $1 ORDER BY expires_at LIMIT {_PURGE_ROWS})
    DELETE FROM idempotency WHERE ctid = ANY(ARRAY(SELECT ctid FROM expired))
"""


async def purge_expired(executor: StatementExecutor, now: datetime) -> None:
    for purge, before in ((_PURGE_INBOX, now - INBOX_RETENTION), (_PURGE_IDEMPOTENCY, now)):
        while await executor.execute(purge, before) == _PURGE_ROWS:
            pass
