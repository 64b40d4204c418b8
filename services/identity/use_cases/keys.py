"""Signing keys: opened with the service, turned by the clock, published to whoever verifies."""

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
from caravan.derivation import derive
from caravan.service import Context
from caravan.telemetry import log
from services.identity.client import KeySet, KeysRequest
from services.identity.model import Schedule, SigningKey
from services.identity.providers import Hasher, new_key, public_part, seal, sign, unseal
from services.identity.settings import Settings
from services.identity.store import keys as store


@dataclass(slots=True)
class Parts:
    """What a running identity holds: the hasher, and the keys as it last read them. `private`: those that it can sign with."""

    hasher: Hasher
    keys: list[SigningKey] = field(default_factory=list)
    private: dict[str, OKPKey] = field(default_factory=dict, repr=False)


Identity = Context[Settings, Parts]


@asynccontextmanager
async def open_parts(context: Identity) -> AsyncIterator[Parts]:
    """The parts, with a key to sign with: the first replica makes it."""
    context.parts = Parts(Hasher(context.settings))
    try:
        await turn_keys(context)
        yield context.parts
    finally:
        context.parts.hasher.close()


def schedule(settings: Settings) -> Schedule:
    return Schedule(
        rotation=timedelta(days=settings.key_rotation_days),
        lead=timedelta(minutes=settings.key_lead_minutes),
        token_life=timedelta(seconds=settings.access_seconds),
    )


async def turn_keys(context: Identity) -> bool:
    """Publish the next key when its time has come, forget those whose last token has expired, and read what other replicas did."""
    await _read(context)
    if _due(context):
        async with context.database.work() as work:
            await store.lock(work)
            await _read(context, work)
            await _turn(context, work)
        await _read(context)
    return False


def _due(context: Identity) -> bool:
    times, now = schedule(context.settings), context.clock()
    return times.next_signs_from(_own(context), now) is not None or bool(times.retired(context.parts.keys, now))


def _own(context: Identity) -> list[SigningKey]:
    """The keys that can sign: after a change of the master secret the earlier ones only verify."""
    return [key for key in context.parts.keys if key.kid in context.parts.private]


async def _read(context: Identity, work: UnitOfWork | None = None) -> None:
    parts, secret = context.parts, _sealing_key(context)
    rows = await store.every(work or context.database)
    parts.keys = [SigningKey(row["kid"], row["signs_from"], orjson.loads(row["public"])) for row in rows]
    opened = {row["kid"]: parts.private.get(row["kid"]) or unseal(row["sealed"], row["kid"], secret) for row in rows}
    parts.private = {kid: key for kid, key in opened.items() if key is not None}


async def _turn(context: Identity, work: UnitOfWork) -> None:
    times, now = schedule(context.settings), context.clock()
    await store.delete(work, times.retired(context.parts.keys, now))
    signs_from = times.next_signs_from(_own(context), now)
    if signs_from is not None:
        kid = str(new_id())
        key = new_key(kid)
        await store.insert(work, kid, public_part(key), seal(key, kid, _sealing_key(context)), now, signs_from)
        log.info("signing key published", kid=kid, signs_from=signs_from.isoformat())


def _sealing_key(context: Identity) -> bytes:
    return bytes.fromhex(derive(context.secret, "identity keys"))


async def published(context: Identity, _: KeysRequest) -> KeySet:
    """The key set from memory: a new key is read long before it signs."""
    return KeySet(issuer=context.url, keys=[dict(key.public) for key in context.parts.keys])


def access_token(context: Identity, *, subject: str, role: str, session: str, actor: str | None = None) -> str:
    now = context.clock()
    key = schedule(context.settings).signer(_own(context), now)
    issued = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": context.url,
        "aud": AUDIENCE,
        "sub": subject,
        "role": role,
        "typ": "access",
        "sid": session,
        "iat": issued,
        "exp": issued + context.settings.access_seconds,
    }
    if actor is not None:
        claims["act"] = {"sub": actor}
    return sign(claims, context.parts.private[key.kid], key.kid)
