"""The HTTP entry point of recommendations."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.http import (
    CACHED_HEADERS,
    IfNoneMatch,
    Injected,
    Limit,
    document_headers,
    make_cached_response,
    make_json_response,
)
from services.recommendations import use_cases
from services.recommendations.client import Recommendations
from services.recommendations.use_cases import RecommendationsContext

router = APIRouter(tags=["recommendations"])

Sku = Annotated[str, Path(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", examples=["MUG"])]


@router.get(
    "/v1/recommendations",
    response_model=Recommendations,
    responses={
        **document_headers(
            200, "X-Cache", *CACHED_HEADERS, description="the best first, each with the rule that fired"
        ),
        **document_headers(304, *CACHED_HEADERS, description="Not changed since the ETag in If-None-Match"),
    },
)
async def list_recommendations(
    context: Injected[RecommendationsContext], caller: Customer, limit: Limit = 10, if_none_match: IfNoneMatch = None
) -> Response:
    """For you: what goes with what you bought, what you buy again and again, and what sells; only what is in stock."""
    answer = await use_cases.get_recommendations(context, caller.user_id, limit)
    is_cached = answer.result in ("hit", "stale", "collapsed")
    return make_cached_response(
        answer, if_none_match, is_private=True, headers={"X-Cache": "hit" if is_cached else "miss"}
    )


@router.get("/v1/products/{sku}/recommendations", response_model=Recommendations)
async def list_product_recommendations(
    context: Injected[RecommendationsContext], sku: Sku, limit: Limit = 10
) -> Response:
    """What is bought together with a product, then what is popular in its category; only what is in stock."""
    return make_json_response(await use_cases.recommend_for_product(context, sku, limit))
