"""The tables of catalog: the one source of their shape. `migrations/` brings a database there."""

from services.catalog.tables.declaring import CatalogTable
from services.catalog.tables.product_words import BUCKET_SIZE, ProductWord
from services.catalog.tables.products import Product
from services.catalog.tables.watches import Alert, Available, Category, Watch

__all__ = ["BUCKET_SIZE", "Alert", "Available", "CatalogTable", "Category", "Product", "ProductWord", "Watch"]
