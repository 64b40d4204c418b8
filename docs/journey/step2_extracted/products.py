"""Step 2: products and their stock are a service of their own, with a database of its own.

python docs/journey/step2_extracted/products.py
"""

import asyncio
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, Field

from docs.journey.step1_monolith.shop import PRODUCTS, find_product, serve, take_stock
from docs.journey.storage import create_tables, transaction


class Quantity(BaseModel):
    quantity: int = Field(ge=1, le=100)


class TakeResult(BaseModel):
    total: int = Field(description="the price of what was taken, in pence")


def create_app(database: Path = Path("products.sqlite")) -> FastAPI:
    app = FastAPI(title="Products")
    create_tables(database, PRODUCTS)

    @app.get("/products/{sku}")
    def read_product(sku: str) -> dict[str, str | int]:
        with transaction(database) as connection:
            return find_product(connection, sku)

    @app.post("/products/{sku}/take")
    def take_from_stock(sku: str, request: Quantity) -> TakeResult:
        """For orders: what used to be an UPDATE in their transaction. Whoever can reach this port can take it all."""
        with transaction(database) as connection:
            return TakeResult(total=take_stock(connection, sku, request.quantity))

    @app.post("/products/{sku}/give-back", status_code=204)
    def return_to_stock(sku: str, request: Quantity) -> None:
        """For orders: what used to be a ROLLBACK."""
        with transaction(database) as connection:
            find_product(connection, sku)
            connection.execute("UPDATE product SET stock = stock + ? WHERE sku = ?", (request.quantity, sku))

    return app


if __name__ == "__main__":
    asyncio.run(serve(create_app(), 8082))
