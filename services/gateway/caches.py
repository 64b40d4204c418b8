"""What the gateway keeps in the shared cache: answers of the graph, void with what they hold of catalog, inventory and
recommendations.
"""

from caravan.cache import Cache
from services.catalog.caches import ALL_PRODUCTS, PRODUCT, PRODUCTS_OF
from services.inventory.caches import STOCK
from services.recommendations.caches import OFFERED_PRODUCTS, USER_ORDERS

_KEY = "document, operation, variables, schema, host, revision of the routes, "
_LEASE_SECONDS = 5.0

PUBLIC_ANSWERS = Cache(
    "gateway.public-graph-answers",
    "answers of GraphQL to operations that anybody may ask",
    _KEY + "role",
    (PRODUCT, PRODUCTS_OF, ALL_PRODUCTS, STOCK),
    "public",
    seconds=10.0,
    lease_seconds=_LEASE_SECONDS,
)
USER_ANSWERS = Cache(
    "gateway.user-graph-answers",
    "answers of GraphQL to operations that need a token",
    _KEY + "role, user",
    (PRODUCT, PRODUCTS_OF, ALL_PRODUCTS, STOCK, OFFERED_PRODUCTS, USER_ORDERS),
    "user",
    seconds=10.0,
    lease_seconds=_LEASE_SECONDS,
)
CACHES = (PUBLIC_ANSWERS, USER_ANSWERS)
