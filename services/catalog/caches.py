"""What catalog keeps in the shared cache, and the tags that void it."""

from collections.abc import Iterable

from caravan.cache import Cache, TagKind
from services.catalog.messages import PRODUCT_UPDATED
from services.inventory.caches import STOCK

PRODUCT = TagKind("product", "sku", (PRODUCT_UPDATED,), "the product was made, changed or withdrawn")
PRODUCTS_OF = TagKind(
    "products-of",
    "category",
    (PRODUCT_UPDATED,),
    "a product of the category was made, changed or withdrawn, or left it",
)
ALL_PRODUCTS = TagKind("products", "", (PRODUCT_UPDATED,), "any product was made, changed or withdrawn")

PRODUCT_LISTS = Cache(
    "catalog.product-lists",
    "a page of products that are sold",
    "search, category, skus, attributes, order, position and length of the page",
    (PRODUCT, PRODUCTS_OF, ALL_PRODUCTS),
    "public",
    seconds=60.0,
)
PRODUCT_PAGES = Cache(
    "catalog.product-pages",
    "a product with its stock, for its page; withdrawn ones too, which only staff is shown",
    "sku",
    (PRODUCT, STOCK),
    "public",
    seconds=10.0,
)
WITHOUT_STOCK_SECONDS = 1.0
"""The life of a page that was made while inventory did not answer."""
CACHES = (PRODUCT_LISTS, PRODUCT_PAGES)


def list_tags_of_list(category: str | None, skus: Iterable[str] | None) -> frozenset[str]:
    """A list changes with any product that is in it or could be: one of these skus, one of this category, or any."""
    if skus is not None:
        return frozenset(PRODUCT(sku) for sku in skus)
    return frozenset({PRODUCTS_OF(category) if category is not None else ALL_PRODUCTS()})


def list_tags_of_product(sku: str, categories: Iterable[str]) -> frozenset[str]:
    """What a change of a product voids. `categories`: its own, and the one that it was in before."""
    return frozenset({PRODUCT(sku), ALL_PRODUCTS(), *(PRODUCTS_OF(category) for category in categories)})
