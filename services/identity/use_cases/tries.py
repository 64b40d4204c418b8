"""Tries of a password: counted before they are checked, and delayed so that guessing is slow and no owner is shut out.

Who tries is told apart as well as can be. A device that signed in to the account before (it kept the cookie of then) has a counter of its own. Somebody at an
address from which the account was registered or had a session shares one per account and address. Only strangers are also counted by their address and by the
account; and a stranger's first try at an account is taken whatever others have tried on it. No delay is longer than a setting, and all of them fade within
an hour. What that costs: at an address that has used up its free tries, the answers 400 and 429 tell who has signed in from there.
"""

import secrets
from dataclasses import dataclass
from uuid import UUID

from prometheus_client import Counter as Metric

from caravan.auth import Caller
from caravan.database import UnitOfWork
from caravan.derivation import derive
from caravan.errors import TooManyRequests
from services.identity.model import Account, Counter, Device, counter
from services.identity.store import attempts, sessions
from services.identity.use_cases.keys import Identity

TRIES = Metric("caravan_password_tries", "Passwords given: right, wrong, or delayed before they were looked at", ["result"])


@dataclass(frozen=True, slots=True)
class Try:
    narrow: Counter
    """This device, session or address with this account."""
    wider: tuple[Counter, ...] = ()
    """For strangers: this address whatever the account, this account whatever the address."""


async def begin_try(context: Identity, email: str, network: str, device: Device | None = None) -> Try:
    """Raises TooManyRequests when it has to wait. The same statements for known and unknown addresses."""
    knobs = context.settings
    known, owner = await sessions.known_from(context.database, email, network)
    if device is not None and owner == device.account:
        return await _take(context, Try(counter("device", device.mark.hex(), free=knobs.free_tries)))
    pair = counter("pair", email, network, free=knobs.free_tries)
    if known:
        return await _take(context, Try(pair))
    of_address = counter("address", network, free=knobs.free_tries_of_address)
    of_account = counter("account", email, free=knobs.free_tries_of_account)
    return await _take(context, Try(pair, (of_address, of_account)), lenient=of_account)


async def begin_try_of_session(context: Identity, caller: Caller) -> Try:
    """Whoever is signed in is known by the session: nobody else's tries hold them up."""
    return await _take(context, Try(counter("session", caller.session, free=context.settings.free_tries)))


async def _take(context: Identity, given: Try, lenient: Counter | None = None) -> Try:
    seconds = await attempts.take(
        context.database, [given.narrow, *given.wider], context.clock(), context.settings.longest_delay_seconds, lenient
    )
    if seconds:
        TRIES.labels("delayed").inc()
        raise too_many(seconds)
    return given


def fail_try() -> None:
    TRIES.labels("wrong").inc()


async def pass_try(work: UnitOfWork, given: Try) -> None:
    TRIES.labels("right").inc()
    await attempts.forgive(work, given.narrow, given.wider)


def device_key(context: Identity) -> bytes:
    return bytes.fromhex(derive(context.secret, "known devices"))


def remember_device(context: Identity, account: Account, device: Device | None) -> str:
    """What the device keeps after a sign-in, to be known at the next one."""
    known: UUID | None = device.account if device else None
    kept = device if device and known == account.id else Device(account.id, secrets.token_bytes(16))
    return kept.write(device_key(context))


def too_many(seconds: int) -> TooManyRequests:
    return TooManyRequests(f"too many tries that failed; the next one is taken in {seconds} s", retry_after=seconds)
