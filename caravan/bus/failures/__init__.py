"""The failure desk of one service: what its subscriptions gave up and what its outbox can't send, in one list, grouped by cause, to be tried again or discarded.

Trying again keeps the message id, so that effects stay single, and the order of each key: a letter is held back while an older one of its key is not chosen with it.
Reading is bounded: the oldest SCAN_MAX of each place, and only the beginnings of their bodies.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import orjson

from caravan import telemetry
from caravan.bus import Bus, DeadLetter, Subscription
from caravan.bus.failures.causes import cause_of, payload_of
from caravan.bus.failures.shapes import (
    Action,
    Cause,
    DiscardRequest,
    Done,
    Failure,
    Listed,
    ListRequest,
    Place,
    Planned,
    Selection,
    ShowRequest,
)
from caravan.clock import Clock, utc_now
from caravan.errors import NotFound
from caravan.redaction import redact_text

SCAN_MAX = 5_000
PREVIEW_BYTES = 4_096
SHOWN_BYTES = 65_536
AT_ONCE = 500
"""Most letters that one call redrives or discards."""
PLAN_SHOWN = 100
IDS_RECORDED = 20


class Source(Protocol):
    """A place where failures lie, such as a service's subscriptions, its outbox or its jobs. Letters come oldest first."""

    @property
    def place(self) -> Place: ...

    async def letters(self, limit: int, preview: int) -> list[DeadLetter]: ...

    async def redrive(self, letters: Sequence[DeadLetter]) -> int: ...

    async def discard(self, letters: Sequence[DeadLetter]) -> int: ...


@dataclass(frozen=True, slots=True)
class Dead:
    """What the subscriptions of a service gave up."""

    bus: Bus
    subscriptions: Sequence[Subscription]
    place: Place = "subscription"

    async def letters(self, limit: int, preview: int) -> list[DeadLetter]:
        return await self.bus.dead_letters(self.subscriptions, limit=limit, preview=preview)

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        return await self.bus.redrive(letters)

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        return await self.bus.discard(letters)


@dataclass(frozen=True, slots=True)
class _Found:
    source: Source
    letter: DeadLetter
    id: str
    cause: str


def failure_id(service: str, place: str, letter: DeadLetter) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([service, place, letter.subscription, letter.id])).decode().rstrip("=")


def service_of(identifier: str) -> str:
    """Whose failure it is. Raises NotFound for what is no failure's id."""
    try:
        service = orjson.loads(base64.urlsafe_b64decode(identifier + "=" * (-len(identifier) % 4)))[0]
    except (ValueError, IndexError, KeyError, TypeError):
        service = None
    if not isinstance(service, str):
        raise NotFound(f"no failure {identifier[:80]}; `GET /v1/failures` lists what there is")
    return service


class Record(Protocol):
    """Writes down who does what to which failures: `begun` before it is done, then what came of it."""

    async def __call__(self, result: Literal["begun", "done", "failed"], selection: Selection, **details: Any) -> None: ...


class Desk:
    def __init__(self, service: str, sources: Sequence[Source], clock: Clock = utc_now) -> None:
        self._service = service
        self._sources = sources
        self._clock = clock

    async def _read(self, preview: int) -> tuple[list[_Found], bool]:
        of_each = await asyncio.gather(*(source.letters(SCAN_MAX, preview) for source in self._sources))
        found = [
            _Found(source, letter, failure_id(self._service, source.place, letter), cause_of(letter.reason))
            for source, letters in zip(self._sources, of_each, strict=True)
            for letter in letters
        ]
        return found, any(len(letters) >= SCAN_MAX for letters in of_each)

    async def page(self, request: ListRequest) -> Listed:
        found, truncated = await self._read(PREVIEW_BYTES)
        found = [f for f in found if request.cause in (None, f.cause) and request.channel in (None, f.letter.channel)]
        found.sort(key=lambda f: (f.letter.died_at, f.id))
        page = [f for f in found if request.after is None or (f.letter.died_at, f.id) > (request.after.failed_at, request.after.id)]
        return Listed(causes=self._causes(found), items=[self._shown(f) for f in page[: request.limit]], truncated=truncated)

    async def show(self, request: ShowRequest) -> Failure:
        found, _ = await self._read(SHOWN_BYTES)
        for f in found:
            if f.id == request.id:
                return self._shown(f)
        raise NotFound(f"no failure {request.id}: it was redriven or discarded")

    async def redrive(self, selection: Selection, record: Record) -> Done:
        return await self._carry_out(selection, "redrive", record, lambda source, letters: source.redrive(letters))

    async def discard(self, request: DiscardRequest, record: Record) -> Done:
        return await self._carry_out(request, "discard", record, lambda source, letters: source.discard(letters))

    async def _carry_out(
        self, selection: Selection, action: Action, record: Record, act: Callable[[Source, Sequence[DeadLetter]], Awaitable[int]]
    ) -> Done:
        as_of = self._clock()
        found, truncated = await self._read(PREVIEW_BYTES)
        plan = list(self._plan(found, selection, action))
        chosen = [f for f, planned in plan if planned.action == action]
        now, later = chosen[:AT_ONCE], chosen[AT_ONCE:]
        done = 0
        if now and not selection.dry_run:
            await record("begun", selection, count=len(now), ids=[f.id for f in now[:IDS_RECORDED]])
            try:
                for source in self._sources:
                    letters = [f.letter for f in now if f.source is source]
                    done += await act(source, letters) if letters else 0
            except Exception as error:
                await record("failed", selection, count=done, reason=type(error).__name__)
                raise
            await record("done", selection, count=done)
        actions = [planned.action for _, planned in plan]
        return Done(
            dry_run=selection.dry_run,
            as_of=as_of,
            chosen=len(plan),
            done=done,
            held_back=actions.count("held back"),
            impossible=actions.count("impossible"),
            more=bool(later) or (truncated and done > 0),
            items=[planned for _, planned in plan[:PLAN_SHOWN]],
        )

    def _plan(self, found: Iterable[_Found], selection: Selection, action: Action) -> Iterable[tuple[_Found, Planned]]:
        """What would be done with each chosen letter, in order."""
        left_behind: set[tuple[str, str]] = set()
        for f in found:
            of_key = (f.letter.subscription, f.letter.key)
            chosen = _is_chosen(f, selection)
            if not chosen:
                left_behind.add(of_key)
                continue
            planned = Planned(
                id=f.id,
                service=self._service,
                subscription=f.letter.subscription,
                key=f.letter.key,
                message_id=_envelope(f.letter).get("id"),
                action=action,
            )
            if action == "redrive" and not f.letter.whole:
                planned = planned.model_copy(update={"action": "impossible", "why": "it is not kept whole, or has not been given up yet"})
            elif action == "redrive" and f.letter.key and of_key in left_behind:
                why = "an older failure of its key is not chosen: redrive that one first, or discard it"
                planned = planned.model_copy(update={"action": "held back", "why": why})
            if planned.action != action:
                left_behind.add(of_key)
            yield f, planned

    def _causes(self, found: Sequence[_Found]) -> list[Cause]:
        by_cause: dict[str, list[_Found]] = {}
        for f in found:
            by_cause.setdefault(f.cause, []).append(f)
        return [
            Cause(
                cause=cause,
                reason=redact_text(of_one[-1].letter.reason),
                count=len(of_one),
                first_at=of_one[0].letter.died_at,
                last_at=of_one[-1].letter.died_at,
                services=[self._service],
                places=sorted({f.source.place for f in of_one}),
                subscriptions=sorted({f.letter.subscription for f in of_one}),
            )
            for cause, of_one in by_cause.items()
        ]

    def _shown(self, f: _Found) -> Failure:
        letter, envelope = f.letter, _envelope(f.letter)
        trace = telemetry.parse_traceparent(envelope.get("traceparent"))
        return Failure(
            id=f.id,
            service=self._service,
            place=f.source.place,
            subscription=letter.subscription,
            channel=letter.channel,
            key=letter.key,
            cause=f.cause,
            reason=redact_text(letter.reason),
            attempts=letter.attempt,
            failed_at=letter.died_at,
            emitted_at=_time(envelope.get("time")),
            message_id=envelope.get("id"),
            type=envelope.get("type"),
            actor=envelope.get("actor"),
            trace_id=trace[3:35] if trace else None,
            size=letter.size,
            redrivable=letter.whole,
            payload=payload_of(letter.body, letter.size),
        )


def _is_chosen(f: _Found, selection: Selection) -> bool:
    if selection.failed_before is not None and f.letter.died_at >= selection.failed_before:
        return False
    if selection.ids is not None:
        return f.id in selection.ids
    return selection.cause == f.cause or selection.subscription == f.letter.subscription


def _envelope(letter: DeadLetter) -> dict[str, str]:
    """The texts of a message's envelope; nothing for what is none, or is only its beginning."""
    try:
        envelope = orjson.loads(letter.body)
    except orjson.JSONDecodeError:
        return {}
    return {name: value for name, value in envelope.items() if isinstance(value, str)} if isinstance(envelope, dict) else {}


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
