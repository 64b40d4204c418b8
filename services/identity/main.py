"""The identity service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Periodic, Service
from services.identity import api, client, jobs, messages, pages
from services.identity.settings import Settings
from services.identity.use_cases import accounts, audit_records, keys, passwords, registering, sessions

service = Service(
    "identity",
    databases=(DatabaseDeclaration("identity", Path(__file__).parent / "migrations"),),
    routers=(api.users, api.auth, pages.router),
    channels=messages.CHANNELS,
    operations={
        client.KEYS: keys.published,
        client.STANDING: accounts.standing,
        client.SESSION: sessions.session_state,
        client.ENSURE_ADMIN: registering.ensure_admin,
        client.RECORD_ADMIN_ACTION: audit_records.record_admin_action,
        client.RECORD_REFUSALS: audit_records.record_refusals,
    },
    settings=Settings,
    periodic=(Periodic("keys", 60.0, keys.turn_keys), Periodic("resets", 5.0, passwords.mail_links), Periodic("prune", 600.0, jobs.prune)),
    parts=keys.open_parts,
)
