"""Routes of one product (read, create, change, withdraw), and the import of many."""

from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response

from caravan.auth import Admin, Anyone
from caravan.cache import Fill
from caravan.errors import NotFound, PreconditionFailed
from caravan.http import (
    CACHED_HEADERS,
    IfMatch,
    IfNoneMatch,
    Injected,
    document_headers,
    format_entity_tag,
    make_cached_response,
    make_json_response,
)
from caravan.idempotency import OptionalIdempotency
from services.catalog.api.documents import SkuPath, is_visible, to_item, to_item_fields
from services.catalog.caches import PRODUCT, PRODUCT_PAGES, WITHOUT_STOCK_SECONDS
from services.catalog.model import Product
from services.catalog.schemas import (
    ProductDocument,
    ProductItem,
    ProductPatch,
    ProductRequest,
    ProductsRequest,
    ProductsSummary,
)
from services.catalog.store import products
from services.catalog.use_cases import CatalogContext, change, read
from services.inventory.caches import STOCK

router = APIRouter(tags=["products"])


@router.get(
    "/v1/products/{sku}",
    response_model=ProductDocument,
    responses={
        **document_headers(200, *CACHED_HEADERS),
        **document_headers(304, *CACHED_HEADERS, description="Not changed since the ETag in If-None-Match"),
    },
)
async def get_product(
    context: Injected[CatalogContext],
    sku: SkuPath,
    caller: Anyone,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One product with its stock; `availability` is null while inventory does not answer. The ETag covers both.
    Withdrawn ones are for staff.
    """
    answer = await context.cache.read(PRODUCT_PAGES, sku, lambda: _fill_page(context, sku))
    document = orjson.loads(answer.value) if answer.value is not None else None
    if document is None or not is_visible(document["active"], caller):
        raise NotFound(f"no product {sku}")
    return make_cached_response(answer, if_none_match, entity_tag=_build_document_tag(document))


async def _fill_page(context: CatalogContext, sku: str) -> Fill:
    product = await products.find_product(context.database, sku)
    tags = frozenset({PRODUCT(sku), STOCK(sku)})
    if product is None:
        return Fill(None, tags)
    availability = await read.find_availability(context, sku)
    document = ProductDocument.model_construct(**to_item_fields(product), availability=availability)
    return Fill(document.model_dump_json().encode(), tags, WITHOUT_STOCK_SECONDS if availability is None else None)


def _build_document_tag(document: dict[str, Any]) -> str:
    """The product's version, and behind the dash what its stock was."""
    stock = document["availability"]
    stock_part = f"{stock['on_hand']}.{stock['reserved']}" if stock else "unknown"
    return f'"{document["version"]}-{stock_part}"'


def _check_version(if_match: str | None, product: Product) -> None:
    """An edit is of the product alone: what stands behind the dash of a tag does not count."""
    if if_match is None or if_match.strip() == "*":
        return
    versions = [tag.strip().removeprefix("W/").strip('"').partition("-")[0] for tag in if_match.split(",")]
    if str(product.version) not in versions:
        raise PreconditionFailed(
            f"you have {if_match}, product {product.sku} is at version {product.version} now; read it again"
        )


@router.post(
    "/v1/products", status_code=201, response_model=ProductItem, responses=document_headers(201, "Location", "ETag")
)
async def post_product(
    context: Injected[CatalogContext], body: ProductRequest, _: Admin, idempotent_request: OptionalIdempotency
) -> Response:
    """Make a product. Its attributes are free, within the rules of its category if that was declared; 409 when the sku
    exists.
    """

    async def create_product() -> Response:
        async with context.database.unit_of_work() as uow:
            product = await change.create_product(context, uow, body)
            headers = {"Location": f"/v1/products/{product.sku}", "ETag": format_entity_tag(product.version)}
            return idempotent_request.store(uow, 201, to_item(product).model_dump_json().encode(), headers)

    return await idempotent_request.execute(context.database, create_product)


@router.put("/v1/products", response_model=ProductsSummary)
async def put_products(context: Injected[CatalogContext], body: ProductsRequest, _: Admin) -> Response:
    """Make or replace up to 500 products at once, all or none; for imports. What is as it should be stays untouched, so
    repeating it changes nothing.
    """
    async with context.database.unit_of_work() as uow:
        summary = await change.upsert_products(context, uow, body.products)
    return make_json_response(summary)


@router.patch("/v1/products/{sku}", response_model=ProductItem, responses=document_headers(200, "ETag"))
async def patch_product(
    context: Injected[CatalogContext],
    sku: SkuPath,
    body: ProductPatch,
    _: Admin,
    idempotent_request: OptionalIdempotency,
    if_match: IfMatch = None,
) -> Response:
    """Change the fields that are given. Orders keep the price that they were placed at."""

    async def change_product() -> Response:
        async with context.database.unit_of_work() as uow:
            before = await change.lock_product(uow, sku)
            _check_version(if_match, before)
            product = await change.change_product(context, uow, before, body)
            return idempotent_request.store(
                uow, 200, to_item(product).model_dump_json().encode(), {"ETag": format_entity_tag(product.version)}
            )

    return await idempotent_request.execute(context.database, change_product)


@router.delete("/v1/products/{sku}", status_code=204)
async def delete_product(
    context: Injected[CatalogContext], sku: SkuPath, _: Admin, if_match: IfMatch = None
) -> Response:
    """Withdraw a product: nobody can find or order it any more; `PATCH {"active": true}` brings it back."""
    async with context.database.unit_of_work() as uow:
        before = await change.lock_product(uow, sku)
        _check_version(if_match, before)
        await change.withdraw_product(context, uow, before)
    return Response(status_code=204)
