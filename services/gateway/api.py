"""The gateway's own routes: the overview, the reference documents and the pages."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from caravan.auth import Customer, Staff
from caravan.errors import NotFound
from caravan.http import FREE_PARAMETERS, Injected, make_json_response
from caravan.times import Time, check_period
from services.gateway import use_cases
from services.gateway.reference import pages
from services.gateway.schemas import Overview, Timeline
from services.gateway.system.view import SystemStatus
from services.gateway.timeline.collect import collect_timeline, require_visible_order
from services.gateway.timeline.difference import compare_moments
from services.gateway.timeline.view import build_items, build_missing
from services.gateway.use_cases import GatewayContext

router = APIRouter(tags=["gateway"])
FREE_PARAMETERS_EXTRA = {FREE_PARAMETERS: ""}
"""Of pages: whoever links to one may have added parameters of their own, such as what a campaign is called."""


@router.get("/v1/me/overview", response_model=Overview)
async def get_overview(context: Injected[GatewayContext], caller: Customer) -> Response:
    """You, your last orders and what we recommend, with its stock. A part of the shop that is unavailable is left out
    and named.
    """
    return make_json_response(await use_cases.read_overview(context, caller.user_id))


@router.get("/v1/orders/{order_id}/timeline", response_model=Timeline)
async def get_timeline(
    context: Injected[GatewayContext],
    order_id: UUID,
    caller: Customer,
    since: Annotated[
        Time | None, Query(alias="from", description="what changed after this moment (RFC 3339), as `difference`")
    ] = None,
    until: Annotated[Time | None, Query(alias="to", description="... and until this one; now, when left out")] = None,
) -> Response:
    """All that happened to an order, in the order of its causes: events, saga, messages, jobs, mails, calls to
    providers, stock, and what people did. Customers see what concerns them. `partial` names what is missing.
    """
    check_period(since, until)
    await require_visible_order(context, caller, order_id)
    nodes, missing = await collect_timeline(context, order_id)
    is_staff = caller.has_role("staff")
    items, partial = build_items(nodes, is_staff=is_staff), build_missing(missing, is_staff=is_staff)
    difference = compare_moments(items, since, until or context.clock()) if since or until else None
    return make_json_response(Timeline(order_id=order_id, items=items, partial=partial, difference=difference))


@router.get("/v1/system", response_model=SystemStatus)
async def get_system_status(request: Request, caller: Staff) -> Response:
    """How the shop is doing now: its processes, requests and messages a second, what waits, breakers, caches and job
    queues. At most a second old; `partial` names what did not answer.
    """
    return make_json_response(await request.app.state.system.read_status())


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request) -> Response:
    return Response(request.app.state.reference.render_openapi(), media_type="application/json")


@router.get("/asyncapi.json", include_in_schema=False)
async def get_asyncapi(request: Request) -> Response:
    return Response(request.app.state.reference.asyncapi, media_type="application/json")


@router.get("/", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_landing_page(request: Request, context: Injected[GatewayContext]) -> Response:
    """A browser goes on to the console; who asks by hand reads how to begin."""
    headers = {"Vary": "Accept"}
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/console", 302, headers)
    response = pages.LANDING.build_response(context.url)
    response.headers.update(headers)
    return response


@router.get("/docs/start", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_start_page(context: Injected[GatewayContext]) -> Response:
    return pages.LANDING.build_response(context.url)


@router.get("/docs", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_docs_page() -> Response:
    return pages.DOCS.build_response()


@router.get("/docs/graphql", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_graphql_page(context: Injected[GatewayContext]) -> Response:
    """For trying queries in development: it shows the schema, so it is there where clients may ask for that."""
    if not context.settings.graphql_introspection:
        raise NotFound("this page shows the schema of GraphQL, which GATEWAY_GRAPHQL_INTROSPECTION=false keeps back")
    return pages.GRAPHQL.build_response()


@router.get("/docs/messages", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_messages_page() -> Response:
    return pages.MESSAGES.build_response()
