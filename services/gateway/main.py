"""The gateway: the one way in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from caravan.refusals import Refusal, RefusedRequests
from caravan.service import Context, Periodic, Service
from services.gateway import api, use_cases
from services.gateway.limits import Limits, Policies
from services.gateway.sessions import Sessions
from services.gateway.settings import Settings
from services.gateway.streams import Streams
from services.gateway.table import REFRESH_SECONDS, Table
from services.gateway.upstreams import Upstreams
from services.identity.client import RECORD_REFUSALS, Refusals


@asynccontextmanager
async def opened(context: Context[Settings, None]) -> AsyncIterator[use_cases.Parts]:
    upstreams = Upstreams(context)
    sessions = Sessions(context.calls, context.settings.session_seconds)
    context.discovery.on_change(lambda: context.nudge("routes"))

    async def record(refusals: list[Refusal]) -> None:  # identity does, since there is no database here
        await context.calls(RECORD_REFUSALS, Refusals(items=refusals))

    refused = RefusedRequests(record)
    yield use_cases.Parts(
        Table(context), Limits(context.redis), Policies(context.settings), sessions, Streams(context.settings, sessions), upstreams, refused
    )
    await refused.report()
    await upstreams.close()


service = Service(
    "gateway",
    settings=Settings,
    parts=opened,
    app=api.build,
    prepare=use_cases.refresh_routes,
    periodic=(Periodic("routes", REFRESH_SECONDS, use_cases.refresh_routes), Periodic("refusals", 5.0, use_cases.report_refusals)),
)
