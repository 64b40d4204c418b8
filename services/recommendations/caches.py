"""What recommendations keeps in the shared cache, and the tags that void it."""

from caravan.cache import Cache, TagKind
from services.catalog.messages import PRODUCT_UPDATED
from services.inventory.messages import STOCK_CHANGED
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED
from services.processing.messages import ORDER_PROCESSED

USER_ORDERS = TagKind(
    "orders-of-user", "user", (ORDER_CREATED, ORDER_PROCESSED, ORDER_CANCELLED), "the user's orders changed"
)
OFFERED_PRODUCTS = TagKind(
    "offered-products", "", (PRODUCT_UPDATED, STOCK_CHANGED), "any product was changed, was sold out or came back"
)

USER_LISTS = Cache(
    "recommendations.user-lists",
    "what is recommended to a user; its life is RECOMMENDATIONS_CACHE_SECONDS",
    "user, length of the list",
    (USER_ORDERS, OFFERED_PRODUCTS),
    "user",
    seconds=60.0,
)
CACHES = (USER_LISTS,)
