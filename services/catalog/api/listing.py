"""The catalogue: search, filters and pages."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from caravan.auth import Anyone
from caravan.errors import Forbidden, Invalid
from caravan.http import FREE_PARAMETERS, CursorParameter, Limit, Page, decode_cursor, page_response, parse_time
from services.catalog import model, store
from services.catalog.api.documents import context_of, item, text
from services.catalog.schemas import CategoryName, ProductItem, Sort

router = APIRouter(tags=["products"])

MAX_FILTERS = 10
MAX_SKUS = 100


@router.get("/v1/products", response_model=Page[ProductItem], openapi_extra={FREE_PARAMETERS: "attr."})
async def list_products(
    request: Request,
    caller: Anyone,
    search: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=r"^[^\x00]*$",
            description='words of the name, category or description (`"a phrase"`, `-not`, `or`), or the beginning of a sku',
        ),
    ] = None,
    category: CategoryName | None = None,
    skus: Annotated[
        str | None, Query(max_length=41 * MAX_SKUS, pattern=r"^[A-Za-z0-9._ ,-]+$", description="only these, up to 100, divided by commas")
    ] = None,
    sort: Annotated[
        Sort | None, Query(description="`relevance` when there is a search, otherwise `newest`; by `price` currency by currency")
    ] = None,
    withdrawn: Annotated[bool, Query(description="the withdrawn ones instead; for staff")] = False,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """The catalogue, in pages that stay stable while products are added. `attr.<name>=<value>` keeps products with that attribute, or with a list that holds it;
    the name given twice means either value."""
    if withdrawn and (caller is None or not caller.at_least("staff")):
        raise Forbidden("withdrawn products are for staff")
    search = search.strip() or None if search else None
    wanted = store.Wanted(search, category, _skus(skus), _attributes(request), not withdrawn)
    by = sort or ("relevance" if search else "newest")
    if by == "relevance" and search is None:
        raise Invalid("sort=relevance needs a search", errors=[{"field": "query.sort", "rule": "relevance needs a search"}])
    place = decode_cursor(cursor, _same(by), PLACES[by], text)
    found = await store.page(context_of(request).database, wanted, by, (place[1], place[2]) if place else None, limit + 1)
    return page_response(found, limit, lambda row: item(row[0]), lambda row: (by, row[1], row[0].sku))


def _same(by: str) -> Callable[[Any], str]:
    def check(part: Any) -> str:
        if part != by:
            raise ValueError("the cursor of another order")
        return by

    return check


def _price(part: Any) -> str:
    if not re.fullmatch(r"[A-Z]{3}[0-9]{19}", text(part)):
        raise ValueError("not a price")
    return str(part)


def _rank(part: Any) -> float:
    if type(part) not in (int, float) or not math.isfinite(part):
        raise ValueError("not a rank")
    return float(part)


PLACES: dict[str, Callable[[Any], Any]] = {
    "relevance": _rank,
    "newest": parse_time,
    "name": text,
    "price": _price,
    "-price": _price,
    "sku": text,
}


def _skus(given: str | None) -> list[str] | None:
    if given is None:
        return None
    skus = [sku for sku in given.split(",") if sku]
    if len(skus) > MAX_SKUS:
        raise Invalid(f"{len(skus)} skus; at most {MAX_SKUS} are taken", errors=[{"field": "query.skus", "rule": f"at most {MAX_SKUS}"}])
    return skus


def _attributes(request: Request) -> tuple[tuple[dict[str, Any], ...], ...]:
    """For each `attr.<name>` the documents of which a product must hold one."""
    names = sorted({name for name in request.query_params if name.startswith("attr.")})
    found = []
    for parameter in names:
        name, texts = parameter.removeprefix("attr."), request.query_params.getlist(parameter)
        if (
            len(names) > MAX_FILTERS
            or len(texts) > MAX_FILTERS
            or not name
            or not all(model.storable(part) and len(part) <= 500 for part in (name, *texts))
        ):
            raise Invalid(
                f"{parameter[:50]} is not a filter",
                errors=[{"field": f"query.{parameter[:50]}", "rule": "no such filter, or too many of them"}],
            )
        values = [value for given in texts for value in model.wanted_values(given)]
        found.append(tuple(document for value in values for document in ({name: value}, {name: [value]})))
    return tuple(found)
