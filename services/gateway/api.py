"""The gateway's own routes: the overview, the reference documents and the pages."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.http import FREE_PARAMETERS, Injected, make_json_response
from services.gateway import use_cases
from services.gateway.console import pages
from services.gateway.schemas import Overview
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


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request) -> Response:
    return Response(request.app.state.reference.render_openapi(), media_type="application/json")


@router.get("/asyncapi.json", include_in_schema=False)
async def get_asyncapi(request: Request) -> Response:
    return Response(request.app.state.reference.asyncapi, media_type="application/json")


@router.get("/", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_landing_page(context: Injected[GatewayContext]) -> Response:
    return pages.LANDING.build_response(context.url)


@router.get("/docs", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_docs_page() -> Response:
    return pages.DOCS.build_response()


@router.get("/docs/messages", include_in_schema=False, openapi_extra=FREE_PARAMETERS_EXTRA)
async def show_messages_page() -> Response:
    return pages.MESSAGES.build_response()
