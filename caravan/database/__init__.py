"""Postgres: pool, reads, and the unit of work that commits rows, events, messages and a stored response together."""

from caravan.database.connections import CONNECTION_LOST, open_connection
from caravan.database.pending_writes import RESPONSE_RETENTION, StoredResponse
from caravan.database.retention import INBOX_RETENTION
from caravan.database.sessions import LIMITS, PIN, check_pooler, is_pooled
from caravan.database.unit_of_work import (
    WITHOUT_SYNC_COMMIT,
    Database,
    DuplicateRequest,
    UnitOfWork,
    VersionConflict,
    current_message,
)

__all__ = [
    "CONNECTION_LOST",
    "INBOX_RETENTION",
    "LIMITS",
    "PIN",
    "RESPONSE_RETENTION",
    "WITHOUT_SYNC_COMMIT",
    "Database",
    "DuplicateRequest",
    "StoredResponse",
    "UnitOfWork",
    "VersionConflict",
    "check_pooler",
    "current_message",
    "is_pooled",
    "open_connection",
]
