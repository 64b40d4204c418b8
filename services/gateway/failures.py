"""The failures of all services in one answer: each service is asked about its own; those that can't be asked are named."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from pydantic import BaseModel

from caravan.bus.failures import service_of
from caravan.bus.failures.shapes import (
    Cause,
    DiscardRequest,
    Done,
    Failure,
    Listed,
    ListRequest,
    Position,
    Selection,
    ShowRequest,
    discarding,
    listing,
    redriving,
    showing,
)
from caravan.database import CONNECTION_LOST
from caravan.errors import NotFound, Problem, Unavailable
from caravan.telemetry import log
from services.gateway.faces import known_services
from services.gateway.routing import OWN
from services.gateway.use_cases import GatewayContext

T = TypeVar("T")
S = TypeVar("S", bound=Selection)


class Failures(BaseModel):
    """Causes count everything that the filter lets through; items are a page of it. `failed`: services that could not be asked. `truncated`: some service
    has more than it reads at once, and the oldest are shown."""

    causes: list[Cause]
    items: list[Failure]
    next_cursor: str | None
    truncated: bool
    partial: bool
    failed: list[str]


class Outcome(Done):
    """What came of it, over all services; `failed`: services that could not be asked, so nothing was done there."""

    partial: bool
    failed: list[str]


def _asked(context: GatewayContext, service: str | None) -> list[str]:
    given = {name.strip() for name in context.settings.services.split(",") if name.strip()}
    known = (given or known_services()) - {OWN}
    if service is not None and service not in known:
        raise NotFound(f"no service {service}; there are: {', '.join(sorted(known))}")
    return [service] if service else sorted(known)


async def _gather(services: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> tuple[list[T], list[str]]:
    """The answers, and the names of the services that gave none. A refusal of the request itself is raised."""

    async def one(service: str) -> T | None:
        try:
            return await ask(service)
        except (NotFound, *CONNECTION_LOST) as error:  # an older release doesn't know the operation
            log.warning("a service's failures are unknown", target=service, error=repr(error))
        except Problem as error:
            if error.status < 500:
                raise
            log.warning("a service's failures are unknown", target=service, error=repr(error))
        return None

    services = list(services)
    answers = await asyncio.gather(*(one(service) for service in services))
    failed = [service for service, answer in zip(services, answers, strict=True) if answer is None]
    return [answer for answer in answers if answer is not None], failed


async def list_failures(
    context: GatewayContext, service: str | None, cause: str | None, channel: str | None, after: Position | None, limit: int
) -> tuple[Failures, Failure | None]:
    """A page, and the item that it ends with when there are more."""
    request = ListRequest(cause=cause, channel=channel, after=after, limit=limit + 1)
    answers, failed = await _gather(_asked(context, service), lambda name: context.calls(listing(name), request))
    items = sorted((item for answer in answers for item in answer.items), key=lambda item: (item.failed_at, item.id))
    page = Failures(
        causes=_together(answers),
        items=items[:limit],
        next_cursor=None,
        truncated=any(answer.truncated for answer in answers),
        partial=bool(failed),
        failed=failed,
    )
    return page, items[limit - 1] if len(items) > limit else None


def _together(answers: Iterable[Listed]) -> list[Cause]:
    """One line per cause, whichever services have it; the most frequent first."""
    found: dict[str, Cause] = {}
    for cause in (cause for answer in answers for cause in answer.causes):
        known = found.get(cause.cause)
        found[cause.cause] = cause if known is None else _joined(known, cause)
    return sorted(found.values(), key=lambda cause: (-cause.count, cause.first_at))


def _joined(one: Cause, other: Cause) -> Cause:
    return Cause(
        cause=one.cause,
        reason=one.reason,
        count=one.count + other.count,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
        services=sorted({*one.services, *other.services}),
        places=sorted({*one.places, *other.places}),
        subscriptions=sorted({*one.subscriptions, *other.subscriptions}),
    )


async def show_failure(context: GatewayContext, identifier: str) -> Failure:
    service = service_of(identifier)
    if service not in _asked(context, None):
        raise NotFound(f"no failure {identifier[:80]}; `GET /v1/failures` lists what there is")
    return await context.calls(showing(service), ShowRequest(id=identifier))


async def redrive(context: GatewayContext, selection: Selection) -> Outcome:
    return await _carry_out(context, selection, lambda name, part: context.calls(redriving(name), part))


async def discard(context: GatewayContext, request: DiscardRequest) -> Outcome:
    return await _carry_out(context, request, lambda name, part: context.calls(discarding(name), part))


async def _carry_out(context: GatewayContext, selection: S, ask: Callable[[str, S], Awaitable[Done]]) -> Outcome:
    services = _asked(context, None)
    parts = dict.fromkeys(services, selection)
    if selection.ids is not None:
        of_service: dict[str, list[str]] = {}
        for identifier in selection.ids:
            of_service.setdefault(service_of(identifier), []).append(identifier)
        parts = {name: selection.model_copy(update={"ids": ids}) for name, ids in of_service.items() if name in services}
    answers, failed = await _gather(parts, lambda name: ask(name, parts[name]))
    if failed and not answers:
        raise Unavailable(f"none of these can be reached: {', '.join(failed)}")
    return Outcome(
        dry_run=selection.dry_run,
        as_of=min((answer.as_of for answer in answers), default=context.clock()),
        chosen=sum(answer.chosen for answer in answers),
        done=sum(answer.done for answer in answers),
        held_back=sum(answer.held_back for answer in answers),
        impossible=sum(answer.impossible for answer in answers),
        more=any(answer.more for answer in answers),
        items=[item for answer in answers for item in answer.items],
        partial=bool(failed),
        failed=failed,
    )
