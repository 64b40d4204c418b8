"""One product: read, made, changed, withdrawn; and many at once."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from caravan.auth import Admin, Anyone
from caravan.errors import StaleEdit
from caravan.http import IfMatch, document_headers, entity_tag, json_response
from caravan.idempotency import OnceIfKeyed
from services.catalog import use_cases
from services.catalog.api.documents import SkuPath, context_of, fields, item, visible
from services.catalog.model import Product
from services.catalog.schemas import Availability, ProductDocument, ProductItem, ProductPatch, ProductRequest, ProductsDone, ProductsRequest

router = APIRouter(tags=["products"])


@router.get(
    "/v1/products/{sku}",
    response_model=ProductDocument,
    responses={
        **document_headers(200, "ETag"),
        **document_headers(304, "ETag", description="Not changed since the ETag in If-None-Match"),
    },
)
async def get_product(
    request: Request,
    sku: SkuPath,
    caller: Anyone,
    if_none_match: Annotated[str | None, Header(max_length=500, description="the ETag that you have: 304 when nothing has changed")] = None,
) -> Response:
    """One product with its stock; `availability` is null while inventory does not answer. The ETag covers both. Withdrawn ones are for staff."""
    context = context_of(request)
    product = await visible(context, sku, caller)
    stock = await use_cases.stock_of(context, sku)
    headers = {"ETag": _document_tag(product, stock), "Cache-Control": "no-cache"}
    if if_none_match is not None and headers["ETag"] in [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]:
        return Response(status_code=304, headers=headers)
    return json_response(ProductDocument.model_construct(**fields(product), availability=stock), headers=headers)


def _document_tag(product: Product, stock: Availability | None) -> str:
    """The product's version, and behind the dash what its stock was."""
    return f'"{product.version}-{f"{stock.on_hand}.{stock.reserved}" if stock else "unknown"}"'


def _check_version(if_match: str | None, product: Product) -> None:
    """An edit is of the product alone: what stands behind the dash of a tag does not count."""
    if if_match is None or if_match.strip() == "*":
        return
    versions = [tag.strip().removeprefix("W/").strip('"').partition("-")[0] for tag in if_match.split(",")]
    if str(product.version) not in versions:
        raise StaleEdit(f"you have {if_match}, product {product.sku} is at version {product.version} now; read it again")


@router.post("/v1/products", status_code=201, response_model=ProductItem, responses=document_headers(201, "Location", "ETag"))
async def post_product(request: Request, body: ProductRequest, _: Admin, once: OnceIfKeyed) -> Response:
    """Make a product. Its attributes are free, within the rules of its category if that was declared; 409 when the sku exists."""
    context = context_of(request)

    async def act() -> Response:
        async with context.database.work() as work:
            product = await use_cases.make_product(context, work, body)
            headers = {"Location": f"/v1/products/{product.sku}", "ETag": entity_tag(product.version)}
            return once.save(work, 201, item(product).model_dump_json().encode(), headers)

    return await once.run(context.database, act)


@router.put("/v1/products", response_model=ProductsDone)
async def put_products(request: Request, body: ProductsRequest, _: Admin) -> Response:
    """Make or replace up to 500 products at once, all or none; for imports. What is as it should be stays untouched, so repeating it changes nothing."""
    context = context_of(request)
    async with context.database.work() as work:
        done = await use_cases.put_products(context, work, body.products)
    return json_response(done)


@router.patch("/v1/products/{sku}", response_model=ProductItem, responses=document_headers(200, "ETag"))
async def patch_product(
    request: Request, sku: SkuPath, body: ProductPatch, _: Admin, once: OnceIfKeyed, if_match: IfMatch = None
) -> Response:
    """Change the fields that are given. Orders keep the price that they were placed at."""
    context = context_of(request)

    async def act() -> Response:
        async with context.database.work() as work:
            before = await use_cases.find_locked(work, sku)
            _check_version(if_match, before)
            product = await use_cases.change_product(context, work, before, body)
            return once.save(work, 200, item(product).model_dump_json().encode(), {"ETag": entity_tag(product.version)})

    return await once.run(context.database, act)


@router.delete("/v1/products/{sku}", status_code=204)
async def delete_product(request: Request, sku: SkuPath, _: Admin, if_match: IfMatch = None) -> Response:
    """Withdraw a product: nobody can find or order it any more; `PATCH {"active": true}` brings it back."""
    context = context_of(request)
    async with context.database.work() as work:
        before = await use_cases.find_locked(work, sku)
        _check_version(if_match, before)
        await use_cases.withdraw_product(context, work, before)
    return Response(status_code=204)
