"""Campaign mails just before they are sent: what they say, what is recommended to each recipient now, and who must not
be disturbed yet.

Apart from `send.py`, because nothing else that is sent asks another service for anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from caravan.errors import Problem
from caravan.telemetry import log
from services.notifications.model import DEFAULT_PREFERENCE
from services.notifications.store import campaigns, preferences
from services.notifications.store.campaigns import CampaignContent
from services.notifications.store.notifications import AttemptResult
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.campaigns.local_time import parse_quiet_hours
from services.recommendations.client import LIST_FOR_USERS, Recommendation, UsersRequest

ITEMS_SHOWN = 5
UNANSWERED_DELAY = timedelta(seconds=30)
"""Until a recommendation mail is tried again when nobody answered what to recommend. It costs no attempt."""


@dataclass(slots=True)
class PreparedCampaigns:
    """`values` by row: what its campaign says. `results`: of rows that are not sent now."""

    values: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    results: list[AttemptResult] = field(default_factory=list)


async def prepare_campaigns(context: NotificationsContext, rows: Sequence[asyncpg.Record]) -> PreparedCampaigns:
    """Prepare the campaign mails among these rows."""
    prepared = PreparedCampaigns()
    campaign_ids = {
        row["id"]: UUID(orjson.loads(row["values"])["campaign_id"]) for row in rows if row["kind"] == "campaign"
    }
    if not campaign_ids:
        return prepared
    contents = await campaigns.find_contents(context.database, list(set(campaign_ids.values())))
    mails = [(row, contents[campaign_ids[row["id"]]]) for row in rows if row["id"] in campaign_ids]
    mails = await _postpone_quiet(context, mails, prepared)
    mails = await _recommend_items(context, mails, prepared)
    for row, content in mails:
        prepared.values.setdefault(row["id"], {"items": []}).update(subject=content.subject, text=content.text)
    return prepared


Mail = tuple[asyncpg.Record, CampaignContent]


async def _postpone_quiet(context: NotificationsContext, mails: list[Mail], prepared: PreparedCampaigns) -> list[Mail]:
    """Leave out those in whose time zone the quiet hours have begun since they were written."""
    if context.settings.quiet_hours is None:
        return mails
    quiet, now = parse_quiet_hours(context.settings.quiet_hours), context.clock()
    stated = await preferences.find_preferences(context.database, [row["user_id"] for row, _ in mails])
    sendable: list[Mail] = []
    for row, content in mails:
        zone = stated.get(row["user_id"], DEFAULT_PREFERENCE).time_zone or content.time_zone
        end = quiet.find_end(now, zone)
        if end is None:
            sendable.append((row, content))
        else:
            prepared.results.append(_postpone(row, end, None))
    return sendable


async def _recommend_items(context: NotificationsContext, mails: list[Mail], prepared: PreparedCampaigns) -> list[Mail]:
    """Look up what is recommended to each recipient now; leave out who has nothing, and all when nobody answers."""
    users = {row["user_id"] for row, content in mails if content.with_recommendations}
    if not users:
        return mails
    items: dict[UUID, list[Recommendation]] | None = None
    try:
        answer = await context.call(LIST_FOR_USERS, UsersRequest(user_ids=sorted(users), limit=ITEMS_SHOWN))
        items = answer.by_user
    except Problem as problem:
        log.warning("nothing to recommend with, tried again later", mails=len(users), reason=problem.detail)
    now = context.clock()
    complete: list[Mail] = []
    for row, content in mails:
        if not content.with_recommendations:
            complete.append((row, content))
        elif items is None:
            prepared.results.append(_postpone(row, now + UNANSWERED_DELAY, "recommendations did not answer"))
        elif recommended := items.get(row["user_id"]):
            prepared.values[row["id"]] = {"items": [item.model_dump() for item in recommended]}
            complete.append((row, content))
        else:
            prepared.results.append(
                AttemptResult(
                    row["id"], row["attempts"], row["attempts"], "suppressed", now, reason="nothing to recommend"
                )
            )
    return complete


def _postpone(row: asyncpg.Record, due_at: datetime, reason: str | None) -> AttemptResult:
    attempts: int = row["attempts"]
    return AttemptResult(row["id"], attempts, attempts - 1, "pending", due_at, reason=reason)
