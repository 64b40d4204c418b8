"""Who wants to hear of a product."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.idempotency import OnceIfKeyed
from services.catalog import use_cases
from services.catalog.api.documents import SkuPath, context_of, visible
from services.catalog.schemas import WatchDocument

router = APIRouter(tags=["products"])


@router.post("/v1/products/{sku}/watch", status_code=201, response_model=WatchDocument)
async def watch_product(request: Request, sku: SkuPath, caller: Customer, once: OnceIfKeyed) -> Response:
    """One mail when it costs less than now or the product is back in stock, whichever is first; then the watch is over. Asking again changes nothing."""
    context = context_of(request)

    async def act() -> Response:
        product = await visible(context, sku, caller)
        email = await use_cases.email_of(context, caller)
        async with context.database.work() as work:
            document = await use_cases.watch_product(context, work, caller, product, email)
            return once.save(work, 201, document.model_dump_json().encode())

    return await once.run(context.database, act)


@router.delete("/v1/products/{sku}/watch", status_code=204)
async def unwatch_product(request: Request, sku: SkuPath, caller: Customer) -> Response:
    """Stop watching; also when you did not."""
    await use_cases.unwatch_product(context_of(request), caller, sku)
    return Response(status_code=204)
