"""Signing keys: loaded at the start, rotated by time, and published to those who verify tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
from joserfc.jwk import OKPKey

from caravan.auth import AUDIENCE
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.derivation import derive_secret
from caravan.environment import SettingsError
from caravan.service import ServiceContext
from caravan.telemetry import log
from services.identity.client import ExternalKeySet, KeySet, KeySetRequest
from services.identity.model import KeySchedule, SigningKey
from services.identity.providers.code_flow import CodeFlow
from services.identity.providers.crypto import (
    PasswordHasher,
    export_public_part,
    generate_key,
    seal_key,
    sign_token,
    unseal_key,
)
from services.identity.providers.openid import OpenIdProvider
from services.identity.settings import Settings
from services.identity.store import keys as store

CALLBACK_PATH = "/v1/auth/callback"
"""Where an outside issuer sends the browser back: it has to know the address beforehand."""


@dataclass(slots=True)
class IdentityResources:
    """What a running identity holds: the hasher, and the keys as it last read them. `private`: those that it can sign
    with.
    """

    hasher: PasswordHasher
    keys: list[SigningKey] = field(default_factory=list)
    private_keys: dict[str, OKPKey] = field(default_factory=dict, repr=False)
    provider: OpenIdProvider | None = None
    """The outside issuer; None where none is set."""
    flow: CodeFlow | None = None
    """Signing in there with a browser; None where no client is set."""


IdentityContext = ServiceContext[Settings, IdentityResources]


@asynccontextmanager
async def open_resources(context: IdentityContext) -> AsyncIterator[IdentityResources]:
    """The resources, with a key to sign with, which the first replica creates."""
    settings = context.settings
    if settings.oidc_issuer == context.url:
        raise SettingsError("IDENTITY_OIDC_ISSUER: must not be this shop itself (CARAVAN_PUBLIC_URL)")
    provider = OpenIdProvider(settings, context.http) if settings.oidc_issuer else None
    flow = (
        CodeFlow(settings, provider, context.http, f"{context.url}{CALLBACK_PATH}")
        if provider is not None and settings.oidc_client_id
        else None
    )
    context.resources = IdentityResources(PasswordHasher(settings), provider=provider, flow=flow)
    try:
        await rotate_keys(context)
        yield context.resources
    finally:
        context.resources.hasher.close()


def build_schedule(settings: Settings) -> KeySchedule:
    return KeySchedule(
        rotation=timedelta(days=settings.key_rotation_days),
        lead=timedelta(minutes=settings.key_lead_minutes),
        token_life=timedelta(seconds=settings.access_token_seconds),
    )


async def rotate_keys(context: IdentityContext) -> bool:
    """Publish the next key when its time has come, forget those whose last token has expired, and read what other
    replicas did.
    """
    await _reload_keys(context)
    if _is_rotation_due(context):
        async with context.database.unit_of_work() as uow:
            await store.lock_keys(uow)
            await _reload_keys(context, uow)
            await _replace_keys(context, uow)
        await _reload_keys(context)
    return False


def _is_rotation_due(context: IdentityContext) -> bool:
    schedule, now = build_schedule(context.settings), context.clock()
    return schedule.compute_next_signs_from(_list_own_keys(context), now) is not None or bool(
        schedule.list_retired_kids(context.resources.keys, now)
    )


def _list_own_keys(context: IdentityContext) -> list[SigningKey]:
    """The keys that can sign: after a change of the master secret the earlier ones only verify."""
    return [key for key in context.resources.keys if key.kid in context.resources.private_keys]


async def _reload_keys(context: IdentityContext, uow: UnitOfWork | None = None) -> None:
    resources, secret = context.resources, _derive_sealing_key(context)
    rows = await store.list_keys(uow or context.database)
    resources.keys = [SigningKey(row.kid, row.signs_from, orjson.loads(row.public)) for row in rows]
    unsealed_keys = {
        row.kid: resources.private_keys.get(row.kid) or unseal_key(row.sealed, row.kid, secret) for row in rows
    }
    resources.private_keys = {kid: key for kid, key in unsealed_keys.items() if key is not None}


async def _replace_keys(context: IdentityContext, uow: UnitOfWork) -> None:
    schedule, now = build_schedule(context.settings), context.clock()
    await store.delete_keys(uow, schedule.list_retired_kids(context.resources.keys, now))
    signs_from = schedule.compute_next_signs_from(_list_own_keys(context), now)
    if signs_from is not None:
        kid = str(new_id())
        key = generate_key(kid)
        await store.insert_key(
            uow, kid, export_public_part(key), seal_key(key, kid, _derive_sealing_key(context)), now, signs_from
        )
        log.info("signing key published", kid=kid, signs_from=signs_from.isoformat())


def _derive_sealing_key(context: IdentityContext) -> bytes:
    return bytes.fromhex(derive_secret(context.secret, "identity keys"))


async def get_key_set(context: IdentityContext, request: KeySetRequest) -> KeySet:
    """The key sets from memory: a new key of the shop is read long before it signs. An outside issuer may sign at once:
    it is asked for a key that nobody knows.
    """
    keys, provider, settings = (
        [dict(key.public) for key in context.resources.keys],
        context.resources.provider,
        context.settings,
    )
    if provider is None or not settings.oidc_audience:
        return KeySet(issuer=context.url, keys=keys)
    if request.kid and all(key["kid"] != request.kid for key in keys):
        await provider.refresh_keys(request.kid)
    external = ExternalKeySet(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=list(settings.oidc_algorithms),
        keys=provider.keys,
    )
    return KeySet(issuer=context.url, keys=keys, external=external)


def issue_access_token(
    context: IdentityContext, *, subject: str, role: str, session: str, actor: str | None = None
) -> str:
    now = context.clock()
    key = build_schedule(context.settings).choose_signing_key(_list_own_keys(context), now)
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": context.url,
        "aud": AUDIENCE,
        "sub": subject,
        "role": role,
        "typ": "access",
        "sid": session,
        "iat": issued_at,
        "exp": issued_at + context.settings.access_token_seconds,
    }
    if actor is not None:
        claims["act"] = {"sub": actor}
    return sign_token(claims, context.resources.private_keys[key.kid], key.kid)
