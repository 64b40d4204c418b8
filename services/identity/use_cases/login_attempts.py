"""Limits login attempts: each is counted before its password is checked, and delayed so that guessing is slow while no
owner is locked out.

Attempts are counted by who makes them. A device that has logged in to the account before (it kept a cookie) has a
counter of its own. An address from which the account was registered or had a session has a counter per account and
address. Strangers are also counted by address and by account; a stranger's first attempt at an account is taken
whatever others have tried. No delay is longer than a setting, and all fade within an hour. The price: at an address
without free attempts, the statuses 400 and 429 tell which accounts have logged in from there.
"""

import secrets
from dataclasses import dataclass
from uuid import UUID

from caravan.auth import Caller
from caravan.database import UnitOfWork
from caravan.derivation import derive_secret
from caravan.errors import TooManyRequests
from services.identity.metrics import PASSWORD_ATTEMPTS
from services.identity.model import Account, AttemptCounter, Device, build_counter
from services.identity.store import attempts, sessions
from services.identity.use_cases.keys import IdentityContext


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    narrow_counter: AttemptCounter
    """This device, session or address with this account."""
    wider_counters: tuple[AttemptCounter, ...] = ()
    """For strangers: this address whatever the account, this account whatever the address."""


async def begin_attempt(
    context: IdentityContext, email: str, network: str, device: Device | None = None
) -> LoginAttempt:
    """Raises TooManyRequests when it has to wait. The same statements for known and unknown addresses."""
    settings = context.settings
    is_known_network, owner_id = await sessions.check_known_network(context.database, email, network)
    if device is not None and owner_id == device.account:
        return await _count_attempt(
            context, LoginAttempt(build_counter("device", device.mark.hex(), free_attempts=settings.free_attempts))
        )
    pair_counter = build_counter("pair", email, network, free_attempts=settings.free_attempts)
    if is_known_network:
        return await _count_attempt(context, LoginAttempt(pair_counter))
    address_counter = build_counter("address", network, free_attempts=settings.free_attempts_per_address)
    account_counter = build_counter("account", email, free_attempts=settings.free_attempts_per_account)
    return await _count_attempt(
        context, LoginAttempt(pair_counter, (address_counter, account_counter)), lenient=account_counter
    )


async def begin_session_attempt(context: IdentityContext, caller: Caller) -> LoginAttempt:
    """A user who is logged in is known by the session: nobody else's attempts delay them."""
    return await _count_attempt(
        context, LoginAttempt(build_counter("session", caller.session, free_attempts=context.settings.free_attempts))
    )


async def _count_attempt(
    context: IdentityContext, attempt: LoginAttempt, lenient: AttemptCounter | None = None
) -> LoginAttempt:
    seconds = await attempts.count_attempt(
        context.database,
        [attempt.narrow_counter, *attempt.wider_counters],
        context.clock(),
        context.settings.max_delay_seconds,
        lenient,
    )
    if seconds:
        PASSWORD_ATTEMPTS.labels("delayed").inc()
        raise build_too_many_error(seconds)
    return attempt


def fail_attempt() -> None:
    PASSWORD_ATTEMPTS.labels("wrong").inc()


async def pass_attempt(uow: UnitOfWork, attempt: LoginAttempt) -> None:
    PASSWORD_ATTEMPTS.labels("right").inc()
    await attempts.forgive_attempt(uow, attempt.narrow_counter, attempt.wider_counters)


def derive_device_key(context: IdentityContext) -> bytes:
    return bytes.fromhex(derive_secret(context.secret, "known devices"))


def remember_device(context: IdentityContext, account: Account, device: Device | None) -> str:
    """What the device keeps after a sign-in, to be known at the next one."""
    account_id: UUID | None = device.account if device else None
    device_to_keep = device if device and account_id == account.id else Device(account.id, secrets.token_bytes(16))
    return device_to_keep.encode(derive_device_key(context))


def build_too_many_error(seconds: int) -> TooManyRequests:
    return TooManyRequests(f"too many failed attempts; the next one is accepted in {seconds} s", retry_after=seconds)
