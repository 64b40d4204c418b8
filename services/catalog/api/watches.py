"""Routes of watches: customers who want to be notified about a product."""

from fastapi import APIRouter
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.http import Injected
from caravan.idempotency import OptionalIdempotency
from services.catalog.api.documents import SkuPath, get_visible_product
from services.catalog.schemas import WatchDocument
from services.catalog.use_cases import CatalogContext, watch

router = APIRouter(tags=["products"])


@router.post("/v1/products/{sku}/watch", status_code=201, response_model=WatchDocument)
async def watch_product(
    context: Injected[CatalogContext], sku: SkuPath, caller: Customer, idempotent_request: OptionalIdempotency
) -> Response:
    """One mail when it costs less than now or the product is back in stock, whichever is first; then the watch is over.
    Asking again changes nothing.
    """

    async def add_watch() -> Response:
        product = await get_visible_product(context, sku, caller)
        email = await watch.get_email(context, caller)
        async with context.database.unit_of_work() as uow:
            document = await watch.watch_product(context, uow, caller, product, email)
            return idempotent_request.store(uow, 201, document.model_dump_json().encode())

    return await idempotent_request.execute(context.database, add_watch)


@router.delete("/v1/products/{sku}/watch", status_code=204)
async def unwatch_product(context: Injected[CatalogContext], sku: SkuPath, caller: Customer) -> Response:
    """Stop watching; also when you did not."""
    await watch.unwatch_product(context, caller, sku)
    return Response(status_code=204)
