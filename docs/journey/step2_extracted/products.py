"""Step 2: products and their stock are a service of their own, with a database of its own.

python docs/journey/step2_extracted/products.py
"""

import asyncio
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, Field

from docs.journey.step1_monolith.shop import PRODUCTS, find_product, serve, take_stock
from docs.journey.storage import make_tables, transaction


class Quantity(BaseModel):
    quantity: int = Field(ge=1, le=100)


class Taken(BaseModel):
    total: int = Field(description="the price of what was taken, in pence")


def create_app(database: Path = Path("products.sqlite")) -> FastAPI:
    app = FastAPI(title="Products")
    make_tables(database, PRODUCTS)

    @app.get("/products/{sku}")
    def read_product(sku: str) -> dict[str, str | int]:
        with transaction(database) as connection:
            return find_product(connection, sku)

    @app.post("/products/{sku}/take")
    def take(sku: str, wanted: Quantity) -> Taken:
        """For orders: what used to be an UPDATE in their transaction. Whoever can reach this port can empty the
        shelf.
        """
        with transaction(database) as connection:
            return Taken(total=take_stock(connection, sku, wanted.quantity))

    @app.post("/products/{sku}/give-back", status_code=204)
    def give_back(sku: str, taken: Quantity) -> None:
        """For orders: what used to be a ROLLBACK."""
        with transaction(database) as connection:
            find_product(connection, sku)
            connection.execute("UPDATE product SET stock = stock + ? WHERE sku = ?", (taken.quantity, sku))

    return app


if __name__ == "__main__":
    asyncio.run(serve(create_app(), 8082))
