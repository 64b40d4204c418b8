"""Asks each service for its dead letters and merges the answers. Services that don't answer are named in the result."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from pydantic import BaseModel

from caravan.database import CONNECTION_LOST
from caravan.dead_letters import decode_service_name
from caravan.dead_letters.schemas import (
    ActionResult,
    DeadLetterCause,
    DeadLetterPage,
    DeadLetterView,
    DiscardRequest,
    ListRequest,
    PageCursor,
    Selection,
    ShowRequest,
    build_discard_operation,
    build_list_operation,
    build_redrive_operation,
    build_show_operation,
)
from caravan.errors import NotFound, Problem, ServiceUnavailable
from caravan.telemetry import log
from services.gateway.use_cases import GatewayContext, list_other_services

T = TypeVar("T")
S = TypeVar("S", bound=Selection)


class DeadLetterReport(BaseModel):
    """Causes count everything that the filter lets through; items are a page of it. `failed`: services that could not
    be asked. `truncated`: some service has more than it reads at once, and the oldest are shown.
    """

    causes: list[DeadLetterCause]
    items: list[DeadLetterView]
    next_cursor: str | None
    truncated: bool
    partial: bool
    failed: list[str]


class CombinedActionResult(ActionResult):
    """What came of it, over all services; `failed`: services that could not be asked, so nothing was done there."""

    partial: bool
    failed: list[str]


def _choose_services(context: GatewayContext, service: str | None) -> list[str]:
    service_names = list_other_services(context)
    if service is not None and service not in service_names:
        raise NotFound(f"no service {service}; there are: {', '.join(sorted(service_names))}")
    return [service] if service else sorted(service_names)


async def _gather_answers(services: Iterable[str], ask_one: Callable[[str], Awaitable[T]]) -> tuple[list[T], list[str]]:
    """The answers, and the names of the services that gave none. A refusal of the request itself is raised."""

    async def ask_or_none(service: str) -> T | None:
        try:
            return await ask_one(service)
        except (NotFound, *CONNECTION_LOST) as error:  # an older release doesn't know the operation
            log.warning("a service's failures are unknown", target=service, error=repr(error))
        except Problem as error:
            if error.status < 500:
                raise
            log.warning("a service's failures are unknown", target=service, error=repr(error))
        return None

    services = list(services)
    answers = await asyncio.gather(*(ask_or_none(service) for service in services))
    failed = [service for service, answer in zip(services, answers, strict=True) if answer is None]
    return [answer for answer in answers if answer is not None], failed


async def list_dead_letters(
    context: GatewayContext,
    service: str | None,
    cause: str | None,
    channel: str | None,
    after: PageCursor | None,
    limit: int,
) -> tuple[DeadLetterReport, DeadLetterView | None]:
    """A page, and the item that it ends with when there are more."""
    request = ListRequest(cause=cause, channel=channel, after=after, limit=limit + 1)
    answers, failed = await _gather_answers(
        _choose_services(context, service), lambda name: context.call(build_list_operation(name), request)
    )
    items = sorted((item for answer in answers for item in answer.items), key=lambda item: (item.failed_at, item.id))
    page = DeadLetterReport(
        causes=_merge_causes(answers),
        items=items[:limit],
        next_cursor=None,
        truncated=any(answer.truncated for answer in answers),
        partial=bool(failed),
        failed=failed,
    )
    return page, items[limit - 1] if len(items) > limit else None


def _merge_causes(pages: Iterable[DeadLetterPage]) -> list[DeadLetterCause]:
    """One line per cause, whichever services have it; the most frequent first."""
    by_cause: dict[str, DeadLetterCause] = {}
    for cause in (cause for page in pages for cause in page.causes):
        previous = by_cause.get(cause.cause)
        by_cause[cause.cause] = cause if previous is None else _merge_pair(previous, cause)
    return sorted(by_cause.values(), key=lambda cause: (-cause.count, cause.first_at))


def _merge_pair(first: DeadLetterCause, second: DeadLetterCause) -> DeadLetterCause:
    return DeadLetterCause(
        cause=first.cause,
        reason=first.reason,
        count=first.count + second.count,
        first_at=min(first.first_at, second.first_at),
        last_at=max(first.last_at, second.last_at),
        services=sorted({*first.services, *second.services}),
        origins=sorted({*first.origins, *second.origins}),
        subscriptions=sorted({*first.subscriptions, *second.subscriptions}),
    )


async def get_dead_letter(context: GatewayContext, identifier: str) -> DeadLetterView:
    service = decode_service_name(identifier)
    if service not in _choose_services(context, None):
        raise NotFound(f"no failure {identifier[:80]}; `GET /v1/failures` lists what there is")
    return await context.call(build_show_operation(service), ShowRequest(id=identifier))


async def redrive(context: GatewayContext, selection: Selection) -> CombinedActionResult:
    return await _run_action(context, selection, lambda name, part: context.call(build_redrive_operation(name), part))


async def discard(context: GatewayContext, request: DiscardRequest) -> CombinedActionResult:
    return await _run_action(context, request, lambda name, part: context.call(build_discard_operation(name), part))


async def _run_action(
    context: GatewayContext, selection: S, run_one: Callable[[str, S], Awaitable[ActionResult]]
) -> CombinedActionResult:
    services = _choose_services(context, None)
    selections = dict.fromkeys(services, selection)
    if selection.ids is not None:
        of_service: dict[str, list[str]] = {}
        for identifier in selection.ids:
            of_service.setdefault(decode_service_name(identifier), []).append(identifier)
        selections = {
            name: selection.model_copy(update={"ids": ids}) for name, ids in of_service.items() if name in services
        }
    answers, failed = await _gather_answers(selections, lambda name: run_one(name, selections[name]))
    if failed and not answers:
        raise ServiceUnavailable(f"none of these can be reached: {', '.join(failed)}")
    return CombinedActionResult(
        dry_run=selection.dry_run,
        as_of=min((answer.as_of for answer in answers), default=context.clock()),
        selected=sum(answer.selected for answer in answers),
        done=sum(answer.done for answer in answers),
        blocked=sum(answer.blocked for answer in answers),
        not_redrivable=sum(answer.not_redrivable for answer in answers),
        more=any(answer.more for answer in answers),
        items=[item for answer in answers for item in answer.items],
        partial=bool(failed),
        failed=failed,
    )
