"""The verbs of catalog: make, change, withdraw and import products; declare categories; watch a product; answer what is for sale."""

from collections.abc import Sequence
from typing import Any

from caravan import crash
from caravan.audit import audit
from caravan.auth import Caller
from caravan.clock import new_id
from caravan.coalesce import Coalesced
from caravan.database import CONNECTION_LOST, Database, UnitOfWork
from caravan.errors import Conflict, DeadlineExceeded, Forbidden, Invalid, NotFound, Unavailable
from caravan.messages import Delivery
from caravan.money import Money
from caravan.service import Context
from services.catalog import model, store
from services.catalog.client import Offer, Offers, OffersRequest
from services.catalog.messages import PRODUCT_UPDATED
from services.catalog.model import Category, Product
from services.catalog.schemas import Availability, CategoryRequest, ProductPatch, ProductRequest, ProductsDone, WatchDocument
from services.catalog.settings import Settings
from services.identity.client import STANDING, StandingRequest
from services.inventory.client import AVAILABILITY, AvailabilityRequest
from services.inventory.messages import StockChanged
from services.notifications.messages import STANDARD, SendNotification

CatalogContext = Context[Settings, Coalesced[str, Offer]]
Change = tuple[Product | None, Product]
"""A product before (None for a new one) and after."""

TELL_BATCH = 500


async def make_product(context: CatalogContext, work: UnitOfWork, request: ProductRequest) -> Product:
    """Raises Conflict for a sku that exists, a withdrawn one too."""
    product = _new(context, request)
    await _check(work, [product])
    if await store.save(work, [product]) == 0:
        raise Conflict(f"product {request.sku} exists; change it with PATCH (a withdrawn one comes back with active: true)")
    await _tell(context, work, [(None, product)])
    _tell_operator(context, work, None, product)
    return product


def _new(context: CatalogContext, request: ProductRequest) -> Product:
    now = context.clock()
    values = {**request.model_dump(exclude={"price"}), "price": _money(request.price)}
    return Product(**values, active=True, version=1, created_at=now, updated_at=now)


def _money(price: Money) -> Money:
    return Money(amount=price.amount, currency=price.currency)


async def find_locked(work: UnitOfWork, sku: str) -> Product:
    """For a change. Raises NotFound."""
    product = (await store.lock(work, [sku])).get(sku)
    if product is None:
        raise NotFound(f"no product {sku}")
    return product


async def change_product(context: CatalogContext, work: UnitOfWork, before: Product, patch: ProductPatch) -> Product:
    """The product with the fields that the patch sets; the same version when they are as they were."""
    values = patch.model_dump(exclude_unset=True, exclude={"price"})
    if "price" in patch.model_fields_set:
        values["price"] = _money(patch.price)
    after = before.changed(context.clock(), **values)
    if after is before:
        return before
    await _check(work, [after])
    await store.save(work, [after])
    await _tell(context, work, [(before, after)])
    _tell_operator(context, work, before, after)
    return after


async def withdraw_product(context: CatalogContext, work: UnitOfWork, before: Product) -> None:
    """Take it from the shop; it stays for the orders that name it. Withdrawing it again changes nothing."""
    after = before.changed(context.clock(), active=False)
    if after is before:
        return
    await store.save(work, [after])
    await _tell(context, work, [(before, after)])
    _tell_operator(context, work, before, after)


async def put_products(context: CatalogContext, work: UnitOfWork, requests: Sequence[ProductRequest]) -> ProductsDone:
    """Make or replace many; those that are as they should be stay untouched, withdrawn ones come back."""
    known = await store.lock(work, [request.sku for request in requests])
    changes: list[Change] = []
    for request in requests:
        product, before = _new(context, request), known.get(request.sku)
        if before is None:
            changes.append((None, product))
            continue
        after = before.changed(
            product.updated_at,
            name=product.name,
            description=product.description,
            category=product.category,
            price=product.price,
            attributes=product.attributes,
            active=True,
        )
        if after is not before:
            changes.append((before, after))
    await _check(work, [after for _, after in changes])
    if changes and await store.save(work, [after for _, after in changes]) != len(changes):
        raise Conflict("some of these products were made by somebody else at this moment; send it again")
    await _tell(context, work, changes)
    created = sum(before is None for before, _ in changes)
    return ProductsDone(created=created, updated=len(changes) - created, unchanged=len(requests) - len(changes))


async def _check(work: UnitOfWork, products: Sequence[Product]) -> None:
    """Raises Invalid when attributes break the rules of their category."""
    rules = await store.categories(work, {product.category for product in products}) if products else {}
    errors = []
    for product in products:
        found = model.check_attributes(product.attributes, rules.get(product.category, Category(product.category)))
        errors += [{**error, "field": f"{product.sku}: {error['field']}"} for error in found] if len(products) > 1 else found
    if errors:
        raise Invalid(f"not valid: {', '.join(error['field'] for error in errors[:5])}", errors=errors[:50])


async def _tell(context: CatalogContext, work: UnitOfWork, changes: Sequence[Change]) -> None:
    """Publish the changes, record the new prices, and raise alerts for those who wait for a lower one."""
    cheaper = [after for before, after in changes if model.may_cost_less(before, after)]
    for before, after in changes:
        work.emit(PRODUCT_UPDATED, model.news(before, after), key=after.sku)
        _audit(work, before, after)
    if cheaper and await store.raise_price_drops(work, cheaper, context.clock()):
        work.after_commit(lambda: context.nudge("tell"))
    crash.point("catalog.change.before_commit")


def _audit(work: UnitOfWork, before: Product | None, after: Product) -> None:
    target = f"product:{after.sku}"
    if before is None:
        audit(work, "product.made", target, price=after.price.model_dump())
        return
    if model.price_changed(before, after):
        audit(work, "price.changed", target, before=before.price.model_dump(), after=after.price.model_dump())
    if before.active != after.active:
        audit(work, "product.restored" if after.active else "product.withdrawn", target)
    if fields := model.described_anew(before, after):
        audit(work, "product.changed", target, fields=fields)


def _values(before: Product | None, after: Product) -> dict[str, Any]:
    values = {"sku": after.sku, "name": after.name, "price": after.price.model_dump()}
    return values | ({"previous_price": before.price.model_dump()} if before else {})


def _tell_operator(context: CatalogContext, work: UnitOfWork, before: Product | None, after: Product) -> None:
    email = context.settings.operator_email
    if email:
        about = f"product:{after.sku}:{after.version}"
        message = SendNotification(about=about, kind="product_updated", user_id=None, email=email, values=_values(before, after))
        work.emit(STANDARD, message, key=about)


async def put_category(work: UnitOfWork, name: str, request: CategoryRequest) -> tuple[Category, int]:
    """Declare what the attributes of a category may be, from now on; with its version."""
    category = Category(name, request.model_dump()["attributes"], request.free)
    version = await store.save_category(work, category)
    audit(work, "category.declared", f"category:{name}", version=version)
    return category, version


async def stock_of(context: CatalogContext, sku: str) -> Availability | None:
    """None while inventory is away or slow: the product is shown without its stock."""
    try:
        found = (await context.calls(AVAILABILITY, AvailabilityRequest(skus=[sku]))).stock
    except (Unavailable, DeadlineExceeded, *CONNECTION_LOST):
        return None
    return Availability(**found[0].model_dump(exclude={"sku"})) if found else Availability(on_hand=0, reserved=0, available=0)


async def offers(context: CatalogContext, request: OffersRequest) -> Offers:
    return Offers.model_construct(offers=await context.parts.get(request.skus))


async def offers_of(database: Database, skus: list[str]) -> dict[str, Offer]:
    construct, money = Offer.model_construct, Money.model_construct
    return {
        sku: construct(sku=sku, name=name, category=category, price=money(amount=price, currency=currency))
        for sku, name, category, price, currency in await store.offers(database, skus)
    }


async def email_of(context: CatalogContext, caller: Caller) -> str:
    """Where a user gets mail. Raises Forbidden for one who is no user, or is disabled."""
    try:
        standing = await context.calls(STANDING, StandingRequest(user_id=caller.user_id))
    except (ValueError, NotFound):
        raise Forbidden("only users with an account can watch products") from None
    if not standing.active:
        raise Forbidden("your account is disabled")
    return standing.email


async def watch_product(context: CatalogContext, work: UnitOfWork, caller: Caller, product: Product, email: str) -> WatchDocument:
    row = await store.watch(work, new_id(), product, caller.user_id, email, context.clock())
    return WatchDocument(sku=product.sku, email=email, since=row["since"], price=Money(amount=row["price"], currency=row["currency"]))


async def unwatch_product(context: CatalogContext, caller: Caller, sku: str) -> None:
    try:
        user_id = caller.user_id
    except ValueError:
        return  # a client of the API that is no user watches nothing
    async with context.database.work() as work:
        await store.unwatch(work, sku, user_id)


async def note_stock(context: CatalogContext, work: UnitOfWork, deliveries: Sequence[Delivery[StockChanged]]) -> None:
    """Raise alerts for products that have come back, none for old news."""
    latest: dict[str, tuple[int, int]] = {}
    for delivery in deliveries:
        stock = delivery.message
        if stock.stock_version >= latest.get(stock.sku, (0, 0))[1]:
            latest[stock.sku] = (stock.available, stock.stock_version)
    back = await store.returned(work, latest)
    if back and await store.raise_back_in_stock(work, back, context.clock()):
        work.after_commit(lambda: context.nudge("tell"))


async def tell_watchers(context: CatalogContext) -> bool:
    """Send the mails of the oldest alert, so many at a time; a watch ends with its mail. What is no longer so by now is not told, and its watches go on."""
    async with context.database.work() as work:
        alert = await store.take_alert(work)
        if alert is None:
            return False
        told = await store.end_watches(work, alert, TELL_BATCH)
        for watch in told:
            about = f"watch:{watch['id']}"
            values: dict[str, Any] = {"sku": alert["sku"], "name": watch["name"]}
            if alert["kind"] == "price_drop":
                for name, amount in (("price", watch["price"]), ("previous_price", watch["watched_at"])):
                    values[name] = Money(amount=amount, currency=watch["currency"]).model_dump()
            message = SendNotification(about=about, kind=alert["kind"], user_id=watch["user_id"], email=watch["email"], values=values)
            work.emit(STANDARD, message, key=about)
        if len(told) < TELL_BATCH:
            await store.drop_alert(work, alert["sku"], alert["kind"])
    return True
