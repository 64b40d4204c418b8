"""The stock of skus for live streams: what is there now, whatever came before."""

from collections.abc import Mapping, Sequence

from caravan.database import Database
from caravan.live_streams import Change, encode_change
from services.inventory.store import stock_table


class StockChanges:
    """A change is the whole stock of a sku; who missed one is right with the next."""

    subject = "stock"
    is_state = True

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_changes(self, versions: Mapping[str, int]) -> Mapping[str, Sequence[Change]]:
        changes: dict[str, Sequence[Change]] = {}
        for stock in await stock_table.find_stock(self._database, list(versions)):
            if stock.version > versions[stock.sku]:
                data = {
                    "sku": stock.sku,
                    "on_hand": stock.on_hand,
                    "reserved": stock.reserved,
                    "available": stock.available,
                }
                changes[stock.sku] = [encode_change("stock", stock.version, data)]
        return changes
