"""Which tags of the shared cache void what a field at the root answers: those that its service has for the same.
`queries.py` names them beside each field; what is joined to objects brings its own (`types.py`).
"""

from caravan.auth import Caller
from services.catalog.caches import PRODUCT, list_tags_of_list
from services.gateway.graphql.policy import JsonObject
from services.inventory.caches import STOCK
from services.recommendations.caches import OFFERED_PRODUCTS, USER_ORDERS

Tags = frozenset[str] | None
"""None: nothing tells of all that may change."""


def list_product_tags(arguments: JsonObject, _: Caller | None) -> Tags:
    return frozenset({PRODUCT(arguments["sku"])}) if arguments["sku"].isprintable() else None


def list_products_tags(arguments: JsonObject, _: Caller | None) -> Tags:
    category, skus = arguments.get("category"), arguments.get("skus")
    if arguments.get("withdrawn") is not None or not f"{category}{skus}".isprintable():
        return None
    return list_tags_of_list(category, skus.split(",") if skus is not None else None)


def list_stock_tags(arguments: JsonObject, _: Caller | None) -> Tags:
    return frozenset({STOCK(arguments["sku"])}) if arguments["sku"].isprintable() else None


def list_recommendation_tags(_: JsonObject, caller: Caller | None) -> Tags:
    return frozenset({OFFERED_PRODUCTS(), USER_ORDERS(caller.subject)}) if caller else None
