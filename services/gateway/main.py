"""The gateway's declaration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from caravan.refusals import Refusal, RefusalRecorder
from caravan.service import PeriodicTask, Service, ServiceContext
from services.gateway import app, caches, use_cases
from services.gateway.limits import RateClasses, RateLimiter
from services.gateway.routing.table import REFRESH_SECONDS, RouteTable
from services.gateway.routing.upstreams import Upstreams
from services.gateway.sessions import SessionCache
from services.gateway.settings import Settings
from services.gateway.streams import LiveStreams
from services.identity.client import RECORD_REFUSALS, Refusals


@asynccontextmanager
async def open_resources(context: ServiceContext[Settings, None]) -> AsyncIterator[use_cases.GatewayResources]:
    upstreams = Upstreams(context)
    sessions = SessionCache(context.call, context.settings.session_seconds)
    context.discovery.add_change_listener(lambda: context.wake("routes"))

    async def record(refusals: list[Refusal]) -> None:  # identity does, since there is no database here
        await context.call(RECORD_REFUSALS, Refusals(items=refusals))

    refusals = RefusalRecorder(record)
    yield use_cases.GatewayResources(
        RouteTable(context),
        RateLimiter(context.redis),
        RateClasses(context.settings),
        sessions,
        LiveStreams(context.settings, sessions),
        upstreams,
        refusals,
    )
    await refusals.send_report()
    await upstreams.close()


service = Service(
    "gateway",
    caches=caches.CACHES,
    settings=Settings,
    open_resources=open_resources,
    build_app=app.build_app,
    websocket_path="/graphql",
    prepare=use_cases.refresh_routes,
    periodic_tasks=(
        PeriodicTask("routes", REFRESH_SECONDS, use_cases.refresh_routes),
        PeriodicTask("refusals", 5.0, use_cases.report_refusals),
    ),
)
