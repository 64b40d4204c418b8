"""Creates, changes, withdraws and imports products, and declares categories; each change is published and audited."""

from collections.abc import Sequence
from typing import Any

from caravan import failpoint
from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.errors import Conflict, InvalidRequest, NotFound
from caravan.money import Money
from services.catalog import model
from services.catalog.caches import list_tags_of_product
from services.catalog.messages import PRODUCT_UPDATED
from services.catalog.model import Category, Product
from services.catalog.schemas import (
    CategoryRequest,
    ProductPatch,
    ProductRequest,
    ProductsSummary,
)
from services.catalog.store import categories, products, watches
from services.catalog.use_cases import CatalogContext
from services.notifications.messages import STANDARD_NOTIFICATIONS, SendNotification

Change = tuple[Product | None, Product]
"""A product before (None for a new one) and after."""


async def create_product(context: CatalogContext, uow: UnitOfWork, request: ProductRequest) -> Product:
    """Raises Conflict for a sku that exists, a withdrawn one too."""
    product = _build_product(context, request)
    await _check_attributes(uow, [product])
    if await products.save_products(uow, [product]) == 0:
        raise Conflict(
            f"product {request.sku} exists; change it with PATCH (a withdrawn one comes back with active: true)"
        )
    await _publish_changes(context, uow, [(None, product)])
    _notify_operator(context, uow, None, product)
    return product


def _build_product(context: CatalogContext, request: ProductRequest) -> Product:
    now = context.clock()
    values = {**request.model_dump(exclude={"price"}), "price": _to_money(request.price)}
    return Product(**values, active=True, version=1, created_at=now, updated_at=now)


def _to_money(price: Money) -> Money:
    return Money(amount=price.amount, currency=price.currency)


async def lock_product(uow: UnitOfWork, sku: str) -> Product:
    """For a change. Raises NotFound."""
    product = (await products.lock_products(uow, [sku])).get(sku)
    if product is None:
        raise NotFound(f"no product {sku}")
    return product


async def change_product(context: CatalogContext, uow: UnitOfWork, before: Product, patch: ProductPatch) -> Product:
    """The product with the fields that the patch sets; the same version when they are as they were."""
    values = patch.model_dump(exclude_unset=True, exclude={"price"})
    if "price" in patch.model_fields_set:
        values["price"] = _to_money(patch.price)
    after = before.apply_changes(context.clock(), **values)
    if after is before:
        return before
    await _check_attributes(uow, [after])
    await products.save_products(uow, [after])
    await _publish_changes(context, uow, [(before, after)])
    _notify_operator(context, uow, before, after)
    return after


async def withdraw_product(context: CatalogContext, uow: UnitOfWork, before: Product) -> None:
    """Take it from the shop; it stays for the orders that name it. Withdrawing it again changes nothing."""
    after = before.apply_changes(context.clock(), active=False)
    if after is before:
        return
    await products.save_products(uow, [after])
    await _publish_changes(context, uow, [(before, after)])
    _notify_operator(context, uow, before, after)


async def upsert_products(
    context: CatalogContext, uow: UnitOfWork, requests: Sequence[ProductRequest]
) -> ProductsSummary:
    """Make or replace many; those that are as they should be stay untouched, withdrawn ones come back."""
    existing = await products.lock_products(uow, [request.sku for request in requests])
    changes: list[Change] = []
    for request in requests:
        product, before = _build_product(context, request), existing.get(request.sku)
        if before is None:
            changes.append((None, product))
            continue
        after = before.apply_changes(
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
    await _check_attributes(uow, [after for _, after in changes])
    if changes and await products.save_products(uow, [after for _, after in changes]) != len(changes):
        raise Conflict("some of these products were made by somebody else at this moment; send it again")
    await _publish_changes(context, uow, changes)
    created = sum(before is None for before, _ in changes)
    return ProductsSummary(created=created, updated=len(changes) - created, unchanged=len(requests) - len(changes))


async def _check_attributes(uow: UnitOfWork, products: Sequence[Product]) -> None:
    """Raises InvalidRequest when attributes break the rules of their category."""
    rules = await categories.find_categories(uow, {product.category for product in products}) if products else {}
    errors = []
    for product in products:
        violations = model.check_attributes(product.attributes, rules.get(product.category, Category(product.category)))
        errors += (
            [{**error, "field": f"{product.sku}: {error['field']}"} for error in violations]
            if len(products) > 1
            else violations
        )
    if errors:
        raise InvalidRequest(f"not valid: {', '.join(error['field'] for error in errors[:5])}", errors=errors[:50])


async def _publish_changes(context: CatalogContext, uow: UnitOfWork, changes: Sequence[Change]) -> None:
    """Publish the changes, record the new prices, raise alerts for those who wait for a lower one, and void what the
    cache has of these products.
    """
    price_drops = [after for before, after in changes if model.can_cost_less(before, after)]
    tags = {
        tag
        for before, after in changes
        for tag in list_tags_of_product(after.sku, {after.category, *([before.category] if before else [])})
    }
    uow.run_after_commit(lambda: context.cache.invalidate(tags))
    for before, after in changes:
        uow.emit(PRODUCT_UPDATED, model.build_product_updated(before, after), key=after.sku)
        _audit_change(uow, before, after)
    if price_drops and await watches.raise_price_drops(uow, price_drops, context.clock()):
        uow.run_after_commit(lambda: context.wake("notify-watchers"))
    failpoint.hit("catalog.change.before_commit")


def _audit_change(uow: UnitOfWork, before: Product | None, after: Product) -> None:
    target = f"product:{after.sku}"
    if before is None:
        record_audit(uow, "product.made", target, price=after.price.model_dump())
        return
    if model.has_price_changed(before, after):
        record_audit(uow, "price.changed", target, before=before.price.model_dump(), after=after.price.model_dump())
    if before.active != after.active:
        record_audit(uow, "product.restored" if after.active else "product.withdrawn", target)
    if fields := model.list_changed_fields(before, after):
        record_audit(uow, "product.changed", target, fields=fields)


def _build_mail_values(before: Product | None, after: Product) -> dict[str, Any]:
    values = {"sku": after.sku, "name": after.name, "price": after.price.model_dump()}
    return values | ({"previous_price": before.price.model_dump()} if before else {})


def _notify_operator(context: CatalogContext, uow: UnitOfWork, before: Product | None, after: Product) -> None:
    email = context.settings.operator_email
    if email:
        dedup_key = f"product:{after.sku}:{after.version}"
        message = SendNotification(
            about=dedup_key, kind="product_updated", user_id=None, email=email, values=_build_mail_values(before, after)
        )
        uow.emit(STANDARD_NOTIFICATIONS, message, key=dedup_key)


async def declare_category(uow: UnitOfWork, name: str, request: CategoryRequest) -> tuple[Category, int]:
    """Declare what the attributes of a category may be, from now on; with its version."""
    category = Category(name, request.model_dump()["attributes"], request.free)
    version = await categories.save_category(uow, category)
    record_audit(uow, "category.declared", f"category:{name}", version=version)
    return category, version
