"""The catalogue: search, filters and pages."""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from caravan.auth import Anyone
from caravan.cache import CachedAnswer, Fill
from caravan.errors import Forbidden, InvalidRequest
from caravan.http import (
    CACHED_HEADERS,
    FREE_PARAMETERS,
    CursorParameter,
    IfNoneMatch,
    Injected,
    Limit,
    RepeatedReadRoute,
    decode_cursor,
    document_headers,
    make_cached_response,
    remember_read,
    render_page,
)
from caravan.schemas import Page
from caravan.times import parse_time
from services.catalog import model
from services.catalog.api.documents import parse_text, to_item
from services.catalog.caches import PRODUCT_LISTS, list_tags_of_list
from services.catalog.schemas import CategoryName, ProductItem, Sort
from services.catalog.store.listing import ProductFilter, list_in_order
from services.catalog.store.search import search_products
from services.catalog.use_cases import CatalogContext

router = APIRouter(tags=["products"], route_class=RepeatedReadRoute)

MAX_FILTERS = 10
MAX_SKUS = 100


@router.get(
    "/v1/products",
    response_model=Page[ProductItem],
    responses={
        **document_headers(200, *CACHED_HEADERS),
        **document_headers(304, *CACHED_HEADERS, description="Not changed since the ETag in If-None-Match"),
    },
    openapi_extra={FREE_PARAMETERS: "attr."},
)
async def list_products(
    request: Request,
    context: Injected[CatalogContext],
    caller: Anyone,
    search: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=r"^[^\x00]*$",
            description='words of the name, category or description (`"a phrase"`, `-not`, `or`), '
            "or the beginning of a sku",
        ),
    ] = None,
    category: CategoryName | None = None,
    skus: Annotated[
        str | None,
        Query(
            max_length=41 * MAX_SKUS,
            pattern=r"^[A-Za-z0-9._ ,-]+$",
            description="only these, up to 100, divided by commas",
        ),
    ] = None,
    sort: Annotated[
        Sort | None,
        Query(description="`relevance` when there is a search, otherwise `newest`; by `price` currency by currency"),
    ] = None,
    withdrawn: Annotated[bool, Query(description="the withdrawn ones instead; for staff")] = False,
    limit: Limit = 20,
    cursor: CursorParameter = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The catalogue, in pages that stay stable while products are added. `attr.<name>=<value>` keeps products with that
    attribute, or with a list that holds it; the name given twice means either value.
    """
    if withdrawn and (caller is None or not caller.has_role("staff")):
        raise Forbidden("withdrawn products are for staff")
    search = search.strip() or None if search else None
    filters = ProductFilter(search, category, _parse_skus(skus), _parse_attribute_filters(request), not withdrawn)
    sort_key = sort or ("relevance" if search else "newest")
    if sort_key == "relevance" and search is None:
        raise InvalidRequest(
            "sort=relevance needs a search", errors=[{"field": "query.sort", "rule": "relevance needs a search"}]
        )
    position = decode_cursor(cursor, _require_sort_key(sort_key), CURSOR_PARSERS[sort_key], parse_text)

    page_request = _PageRequest(filters, sort_key, position, limit)
    if withdrawn:
        fresh = CachedAnswer(await page_request.build_page(context), "bypass")
        return make_cached_response(fresh, if_none_match, is_private=True)
    remember_read(request, page_request.answer_from_cache)
    return await page_request.answer_from_cache(context, if_none_match)


@dataclass(frozen=True, slots=True)
class _PageRequest:
    """What a query string asks for."""

    filters: ProductFilter
    sort_key: str
    position: list[Any] | None
    limit: int
    key: str = field(init=False)

    def __post_init__(self) -> None:
        filters = self.filters
        parts = orjson.dumps(
            [
                filters.search,
                filters.category,
                filters.skus,
                filters.attributes,
                self.sort_key,
                self.position,
                self.limit,
            ]
        )
        object.__setattr__(self, "key", hashlib.blake2b(parts, digest_size=16).hexdigest())

    async def answer_from_cache(self, context: CatalogContext, if_none_match: str | None) -> Response:
        async def fill_page() -> Fill:
            page = await self.build_page(context)
            return Fill(page, list_tags_of_list(self.filters.category, self.filters.skus))

        return make_cached_response(await context.cache.read(PRODUCT_LISTS, self.key, fill_page), if_none_match)

    async def build_page(self, context: CatalogContext) -> bytes:
        find = search_products if self.filters.search is not None else list_in_order
        matches = await find(
            context.database,
            self.filters,
            self.sort_key,
            (self.position[1], self.position[2]) if self.position else None,
            self.limit + 1,
        )
        return render_page(
            matches, self.limit, lambda row: to_item(row[0]), lambda row: (self.sort_key, row[1], row[0].sku)
        )


def _require_sort_key(sort_key: str) -> Callable[[Any], str]:
    def check_sort_key(value: Any) -> str:
        if value != sort_key:
            raise ValueError("the cursor of another order")
        return sort_key

    return check_sort_key


def _parse_price(part: Any) -> str:
    if not re.fullmatch(r"[A-Z]{3}[0-9]{19}", parse_text(part)):
        raise ValueError("not a price")
    return str(part)


def _parse_rank(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("not a rank")
    return float(value)


CURSOR_PARSERS: dict[str, Callable[[Any], Any]] = {
    "relevance": _parse_rank,
    "newest": parse_time,
    "name": parse_text,
    "price": _parse_price,
    "-price": _parse_price,
    "sku": parse_text,
}


def _parse_skus(raw_skus: str | None) -> list[str] | None:
    if raw_skus is None:
        return None
    skus = [sku for sku in raw_skus.split(",") if sku]
    if len(skus) > MAX_SKUS:
        raise InvalidRequest(
            f"{len(skus)} skus; at most {MAX_SKUS} are taken",
            errors=[{"field": "query.skus", "rule": f"at most {MAX_SKUS}"}],
        )
    return skus


def _parse_attribute_filters(request: Request) -> tuple[tuple[dict[str, Any], ...], ...]:
    """For each `attr.<name>` the documents of which a product must hold one."""
    names = sorted({name for name in request.query_params if name.startswith("attr.")})
    filters = []
    for parameter in names:
        name, raw_values = parameter.removeprefix("attr."), request.query_params.getlist(parameter)
        if (
            len(names) > MAX_FILTERS
            or len(raw_values) > MAX_FILTERS
            or not name
            or not all(model.is_storable(raw_text) and len(raw_text) <= 500 for raw_text in (name, *raw_values))
        ):
            raise InvalidRequest(
                f"{parameter[:50]} is not a filter",
                errors=[{"field": f"query.{parameter[:50]}", "rule": "no such filter, or too many of them"}],
            )
        values = [value for raw_value in raw_values for value in model.parse_filter_values(raw_value)]
        filters.append(tuple(document for value in values for document in ({name: value}, {name: [value]})))
    return tuple(filters)
