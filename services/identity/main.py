"""The identity service."""

from pathlib import Path

from caravan.service import OUTBOX_STATE, DatabaseDeclaration, PeriodicTask, Service
from services.identity import client, jobs, messages, pages
from services.identity.api import passwords as password_routes
from services.identity.api import sign_in, tokens, users
from services.identity.settings import Settings
from services.identity.use_cases import (
    accounts,
    audit_records,
    external_tokens,
    keys,
    passwords,
    registration,
    sessions,
)

service = Service(
    "identity",
    databases=(
        DatabaseDeclaration("identity", Path(__file__).parent / "migrations", readers={"reconciliation": OUTBOX_STATE}),
    ),
    routers=(users.router, tokens.router, sign_in.router, password_routes.router, pages.router),
    channels=messages.CHANNELS,
    operations=(
        client.GET_KEY_SET.bind(keys.get_key_set),
        client.ACCEPT_TOKEN.bind(external_tokens.accept_token),
        client.GET_CUSTOMER_STATUS.bind(accounts.get_customer_status),
        client.GET_SESSION_STATE.bind(sessions.get_session_state),
        client.ENSURE_ADMIN.bind(registration.ensure_admin),
        client.RECORD_ADMIN_ACTION.bind(audit_records.record_admin_action),
        client.RECORD_DISCLOSURE.bind(audit_records.record_disclosure),
        client.RECORD_REFUSALS.bind(audit_records.record_refusals),
    ),
    settings=Settings,
    periodic_tasks=(
        PeriodicTask("rotate-keys", 60.0, keys.rotate_keys),
        PeriodicTask("refresh-issuer-keys", 60.0, external_tokens.refresh_issuer_keys),
        PeriodicTask("mail-reset-links", 5.0, passwords.mail_reset_links),
        PeriodicTask("purge-expired", 600.0, jobs.purge_expired),
    ),
    open_resources=keys.open_resources,
)
