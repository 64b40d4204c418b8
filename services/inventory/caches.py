"""The tags that changes of stock invalidate; whoever shows stock holds them."""

from caravan.cache import TagKind
from services.inventory.messages import STOCK_CHANGED

STOCK = TagKind("stock", "sku", (STOCK_CHANGED,), "the stock of the sku changed")
