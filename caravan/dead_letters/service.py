"""The dead letters of one service: those of its subscriptions, outbox, jobs and own sources in one list, grouped by
cause, to be redriven or discarded.

Redriving keeps the message id, so that effects stay single, and the order of each key: a dead letter is blocked while
an older one of its key is not selected with it. Reading is bounded: the oldest of each source, and only the beginnings
of their bodies.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import orjson

from caravan import telemetry
from caravan.bus import DeadLetter
from caravan.clock import Clock, utc_now
from caravan.dead_letters.causes import compute_cause, redact_payload
from caravan.dead_letters.schemas import (
    Action,
    ActionResult,
    DeadLetterCause,
    DeadLetterPage,
    DeadLetterView,
    DiscardRequest,
    ListRequest,
    Origin,
    PlannedAction,
    Selection,
    ShowRequest,
)
from caravan.dead_letters.sources import DeadLetterSource
from caravan.errors import NotFound
from caravan.redaction import redact_text, redact_value

_SCAN_MAX = 5_000
_PREVIEW_BYTES = 4_096
_DETAIL_BYTES = 65_536
_ACTION_MAX = 500
"""Most letters that one call redrives or discards."""
_PLAN_ITEMS_MAX = 100
_RECORDED_IDS_MAX = 20


@dataclass(frozen=True, slots=True)
class _SourcedDeadLetter:
    source: DeadLetterSource
    dead_letter: DeadLetter
    id: str
    cause: str


def encode_dead_letter_id(service: str, origin: Origin, dead_letter: DeadLetter) -> str:
    """Its id in `/v1/failures`."""
    return (
        base64.urlsafe_b64encode(orjson.dumps([service, origin, dead_letter.subscription, dead_letter.id]))
        .decode()
        .rstrip("=")
    )


def decode_service_name(identifier: str) -> str:
    """Whose failure it is. Raises NotFound for what is no failure's id."""
    try:
        service = orjson.loads(base64.urlsafe_b64decode(identifier + "=" * (-len(identifier) % 4)))[0]
    except (ValueError, IndexError, KeyError, TypeError):
        service = None
    if not isinstance(service, str):
        raise NotFound(f"no failure {identifier[:80]}; `GET /v1/failures` lists what there is")
    return service


class ActionRecorder(Protocol):
    """Writes down who does what to which failures: `begun` before it is done, then what came of it."""

    async def __call__(
        self, result: Literal["begun", "done", "failed"], selection: Selection, **details: Any
    ) -> None: ...


class DeadLetterService:
    def __init__(self, service: str, sources: Sequence[DeadLetterSource], clock: Clock = utc_now) -> None:
        self._service = service
        self._sources = sources
        self._clock = clock

    async def _read_sources(self, preview: int) -> tuple[list[_SourcedDeadLetter], bool]:
        lists = await asyncio.gather(*(source.list_dead_letters(_SCAN_MAX, preview) for source in self._sources))
        entries = [
            _SourcedDeadLetter(
                source,
                dead_letter,
                encode_dead_letter_id(self._service, source.origin, dead_letter),
                compute_cause(dead_letter.reason),
            )
            for source, dead_letters in zip(self._sources, lists, strict=True)
            for dead_letter in dead_letters
        ]
        return entries, any(len(dead_letters) >= _SCAN_MAX for dead_letters in lists)

    async def get_page(self, request: ListRequest) -> DeadLetterPage:
        entries, truncated = await self._read_sources(_PREVIEW_BYTES)
        entries = [
            f for f in entries if request.cause in (None, f.cause) and request.channel in (None, f.dead_letter.channel)
        ]
        entries.sort(key=lambda f: (f.dead_letter.dead_lettered_at, f.id))
        page = [
            f
            for f in entries
            if request.after is None
            or (f.dead_letter.dead_lettered_at, f.id) > (request.after.failed_at, request.after.id)
        ]
        return DeadLetterPage(
            causes=self._group_by_cause(entries),
            items=[self._build_view(f) for f in page[: request.limit]],
            truncated=truncated,
        )

    async def get_dead_letter(self, request: ShowRequest) -> DeadLetterView:
        entries, _ = await self._read_sources(_DETAIL_BYTES)
        for f in entries:
            if f.id == request.id:
                return self._build_view(f)
        raise NotFound(f"no failure {request.id}: it was redriven or discarded")

    async def redrive(self, selection: Selection, record: ActionRecorder) -> ActionResult:
        return await self._execute_action(
            selection, "redrive", record, lambda source, dead_letters: source.redrive(dead_letters)
        )

    async def discard(self, request: DiscardRequest, record: ActionRecorder) -> ActionResult:
        return await self._execute_action(
            request, "discard", record, lambda source, dead_letters: source.discard(dead_letters)
        )

    async def _execute_action(
        self,
        selection: Selection,
        action: Action,
        record: ActionRecorder,
        execute: Callable[[DeadLetterSource, Sequence[DeadLetter]], Awaitable[int]],
    ) -> ActionResult:
        as_of = self._clock()
        entries, truncated = await self._read_sources(_PREVIEW_BYTES)
        plan = list(self._plan_actions(entries, selection, action))
        targets = [f for f, planned in plan if planned.action == action]
        batch, remaining_targets = targets[:_ACTION_MAX], targets[_ACTION_MAX:]
        done_count = 0
        if batch and not selection.dry_run:
            await record("begun", selection, count=len(batch), ids=[f.id for f in batch[:_RECORDED_IDS_MAX]])
            try:
                for source in self._sources:
                    dead_letters = [f.dead_letter for f in batch if f.source is source]
                    done_count += await execute(source, dead_letters) if dead_letters else 0
            except Exception as error:
                await record("failed", selection, count=done_count, reason=type(error).__name__)
                raise
            await record("done", selection, count=done_count)
        actions = [planned.action for _, planned in plan]
        return ActionResult(
            dry_run=selection.dry_run,
            as_of=as_of,
            selected=len(plan),
            done=done_count,
            blocked=actions.count("blocked"),
            not_redrivable=actions.count("not_redrivable"),
            more=bool(remaining_targets) or (truncated and done_count > 0),
            items=[planned for _, planned in plan[:_PLAN_ITEMS_MAX]],
        )

    def _plan_actions(
        self, entries: Iterable[_SourcedDeadLetter], selection: Selection, action: Action
    ) -> Iterable[tuple[_SourcedDeadLetter, PlannedAction]]:
        """What would be done with each selected dead letter, in order."""
        blocked_keys: set[tuple[str, str]] = set()
        for f in entries:
            ordering_key = (f.dead_letter.subscription, f.dead_letter.key)
            is_selected = _is_selected(f, selection)
            if not is_selected:
                blocked_keys.add(ordering_key)
                continue
            planned_action = PlannedAction(
                id=f.id,
                service=self._service,
                subscription=f.dead_letter.subscription,
                key=f.dead_letter.key,
                message_id=_parse_envelope(f.dead_letter).get("id"),
                action=action,
            )
            if action == "redrive" and not f.dead_letter.redrivable:
                planned_action = planned_action.model_copy(
                    update={"action": "not_redrivable", "reason": "it is not kept whole, or has not been given up yet"}
                )
            elif action == "redrive" and f.dead_letter.key and ordering_key in blocked_keys:
                reason = "an older failure of its key is not selected: redrive that one first, or discard it"
                planned_action = planned_action.model_copy(update={"action": "blocked", "reason": reason})
            if planned_action.action != action:
                blocked_keys.add(ordering_key)
            yield f, planned_action

    def _group_by_cause(self, entries: Sequence[_SourcedDeadLetter]) -> list[DeadLetterCause]:
        by_cause: dict[str, list[_SourcedDeadLetter]] = {}
        for f in entries:
            by_cause.setdefault(f.cause, []).append(f)
        return [
            DeadLetterCause(
                cause=cause,
                reason=redact_text(of_one[-1].dead_letter.reason),
                count=len(of_one),
                first_at=of_one[0].dead_letter.dead_lettered_at,
                last_at=of_one[-1].dead_letter.dead_lettered_at,
                services=[self._service],
                origins=sorted({f.source.origin for f in of_one}),
                subscriptions=sorted({f.dead_letter.subscription for f in of_one}),
            )
            for cause, of_one in by_cause.items()
        ]

    def _build_view(self, f: _SourcedDeadLetter) -> DeadLetterView:
        dead_letter, envelope = f.dead_letter, _parse_envelope(f.dead_letter)
        trace = telemetry.parse_traceparent(envelope.get("traceparent"))
        return DeadLetterView(
            id=f.id,
            service=self._service,
            origin=f.source.origin,
            subscription=dead_letter.subscription,
            channel=dead_letter.channel,
            key=dead_letter.key,
            cause=f.cause,
            reason=redact_text(dead_letter.reason),
            attempts=dead_letter.attempt,
            failed_at=dead_letter.dead_lettered_at,
            emitted_at=_parse_time(envelope.get("time")),
            message_id=redact_value(envelope.get("id")),
            type=redact_value(envelope.get("type")),
            actor=redact_value(envelope.get("actor")),
            trace_id=telemetry.parse_trace_id(trace),
            size=dead_letter.size,
            redrivable=dead_letter.redrivable,
            payload=redact_payload(dead_letter.body, dead_letter.size),
        )


def _is_selected(f: _SourcedDeadLetter, selection: Selection) -> bool:
    if selection.failed_before is not None and f.dead_letter.dead_lettered_at >= selection.failed_before:
        return False
    if selection.ids is not None:
        return f.id in selection.ids
    return selection.cause == f.cause or selection.subscription == f.dead_letter.subscription


def _parse_envelope(dead_letter: DeadLetter) -> dict[str, str]:
    """The texts of a message's envelope; nothing for what is none, or is only its beginning."""
    try:
        envelope = orjson.loads(dead_letter.body)
    except orjson.JSONDecodeError:
        return {}
    return (
        {name: value for name, value in envelope.items() if isinstance(value, str)}
        if isinstance(envelope, dict)
        else {}
    )


def _parse_time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
