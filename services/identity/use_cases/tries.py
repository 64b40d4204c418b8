"""Tries of a password: counted before they are checked, delayed per account and address, so that an attacker elsewhere can't lock the victim out."""

from dataclasses import dataclass

from prometheus_client import Counter as Metric

from caravan.database import UnitOfWork
from caravan.errors import TooManyRequests
from services.identity.model import Counter, counter
from services.identity.store import attempts, sessions
from services.identity.use_cases.keys import Identity

TRIES = Metric("caravan_password_tries", "Passwords given: right, wrong, or delayed before they were looked at", ["result"])


@dataclass(frozen=True, slots=True)
class Try:
    pair: Counter
    """This account from this address."""
    wider: tuple[Counter, ...]
    """This address whatever the account, this account whatever the address."""


async def begin_try(context: Identity, email: str, network: str) -> Try:
    """Raises TooManyRequests when it has to wait. The same statements for known and unknown addresses."""
    knobs, now = context.settings, context.clock()
    pair = counter("pair", email, network, free=knobs.free_tries)
    of_address = counter("address", network, free=knobs.free_tries_of_address)
    of_account = counter("account", email, free=knobs.free_tries_of_account)
    known = await sessions.known_from(context.database, email, network)
    seconds = await attempts.seconds_to_wait(context.database, [pair, of_address] if known else [pair, of_address, of_account], now)
    if seconds or not await attempts.take(context.database, pair, now):
        TRIES.labels("delayed").inc()
        raise too_many(max(1, seconds))
    return Try(pair, (of_address, of_account))


async def fail_try(work: UnitOfWork, given: Try) -> None:
    TRIES.labels("wrong").inc()
    await attempts.count(work, given.wider, work.database.clock())


async def pass_try(work: UnitOfWork, given: Try) -> None:
    TRIES.labels("right").inc()
    await attempts.forgive(work, [given.pair])


def too_many(seconds: int) -> TooManyRequests:
    return TooManyRequests(f"too many tries that failed; the next one is taken in {seconds} s", retry_after=seconds)
