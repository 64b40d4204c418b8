"""Routes of dead letters (`/v1/failures`): list them by cause, show, redrive and discard. `dead_letter_fanout.py` asks
the services.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from caravan.auth import Admin
from caravan.dead_letters.schemas import DeadLetterView, DiscardRequest, PageCursor, Selection
from caravan.http import (
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    encode_cursor,
    make_json_response,
    parse_text_part,
)
from caravan.times import parse_time
from services.gateway.admin import dead_letter_fanout
from services.gateway.admin.dead_letter_fanout import CombinedActionResult, DeadLetterReport
from services.gateway.use_cases import GatewayContext

router = APIRouter(tags=["gateway"])


@router.get("/v1/failures", response_model=DeadLetterReport)
async def list_failures(
    context: Injected[GatewayContext],
    caller: Admin,
    service: Annotated[str | None, Query(max_length=60, description="only what this service gave up")] = None,
    cause: Annotated[str | None, Query(max_length=64, description="only what failed for this cause")] = None,
    channel: Annotated[str | None, Query(max_length=200, description="only messages of this channel")] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """Messages and jobs that were given up: by cause, and one by one, the oldest first. Services that can't be asked
    are named in `failed`.
    """
    position = decode_cursor(cursor, parse_time, parse_text_part)
    after = PageCursor(failed_at=position[0], id=position[1]) if position else None
    page, last = await dead_letter_fanout.list_dead_letters(context, service, cause, channel, after, limit)
    if last is not None:
        page.next_cursor = encode_cursor(last.failed_at.isoformat(), last.id)
    return make_json_response(page)


@router.post("/v1/failures/redrive", response_model=CombinedActionResult)
async def redrive_failures(context: Injected[GatewayContext], caller: Admin, body: Selection) -> Response:
    """Give failures to their handlers again, with their message ids and in the order of their keys, as attempt 1.
    `dry_run` says what would be done.
    """
    return make_json_response(await dead_letter_fanout.redrive(context, body))


@router.post("/v1/failures/discard", response_model=CombinedActionResult)
async def discard_failures(context: Injected[GatewayContext], caller: Admin, body: DiscardRequest) -> Response:
    """Remove failures for good; the reason goes to the audit log."""
    return make_json_response(await dead_letter_fanout.discard(context, body))


@router.get("/v1/failures/{failure_id}", response_model=DeadLetterView)
async def get_failure(
    context: Injected[GatewayContext], caller: Admin, failure_id: Annotated[str, Path(max_length=500)]
) -> Response:
    """One failure with its whole message, but for secrets."""
    return make_json_response(await dead_letter_fanout.get_dead_letter(context, failure_id))
