"""Routes of categories: which attributes their products may have."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from caravan.auth import Admin
from caravan.http import (
    CursorParameter,
    IfMatch,
    Injected,
    Limit,
    check_if_match,
    decode_cursor,
    document_headers,
    format_entity_tag,
    make_json_response,
    make_page_response,
)
from caravan.schemas import Page
from services.catalog.api.documents import parse_text
from services.catalog.model import Category
from services.catalog.schemas import CategoryDocument, CategoryName, CategoryRequest
from services.catalog.store import categories
from services.catalog.use_cases import CatalogContext, change

router = APIRouter(tags=["products"])


@router.get("/v1/categories", response_model=Page[CategoryDocument])
async def list_categories(
    context: Injected[CatalogContext], limit: Limit = 20, cursor: CursorParameter = None
) -> Response:
    """The categories that were declared, by name. Products may have others, with free attributes."""
    after = decode_cursor(cursor, parse_text)
    rows = await categories.list_categories(context.database, after[0] if after else None, limit + 1)
    return make_page_response(rows, limit, lambda row: _to_category_document(*row), lambda row: (row[0].name,))


def _to_category_document(category: Category, version: int) -> CategoryDocument:
    return CategoryDocument.model_validate(
        {"name": category.name, "attributes": category.attributes, "free": category.free, "version": version}
    )


@router.put("/v1/categories/{name}", response_model=CategoryDocument, responses=document_headers(200, "ETag"))
async def put_category(
    context: Injected[CatalogContext],
    name: Annotated[CategoryName, Path()],
    body: CategoryRequest,
    _: Admin,
    if_match: IfMatch = None,
) -> Response:
    """Declare which attributes products of a category may have, from their next change on. `{"attributes": {}, "free":
    true}` takes all rules away.
    """
    async with context.database.unit_of_work() as uow:
        version = await categories.lock_category_version(uow, name)
        check_if_match(if_match, version or 0)
        category, version = await change.declare_category(uow, name, body)
    return make_json_response(_to_category_document(category, version), headers={"ETag": format_entity_tag(version)})
