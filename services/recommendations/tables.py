"""The tables of recommendations: the one source of their shape. `migrations/` brings a database there.

A purchase is updated twice within seconds of being made: room in the page keeps the new versions there, and nothing
that changes is indexed. Skus are compared by their bytes, as Python does.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry

_SKU = sql.TEXT(collation="C")
_STORAGE = {"postgresql_with": {"fillfactor": "60", "autovacuum_vacuum_cost_delay": "0"}}


class RecommendationsTable(DeclaredTable, registry=define_registry("recommendations")):
    pass


class Product(RecommendationsTable, table=True):
    __tablename__ = "product"
    __table_args__ = (_STORAGE,)

    sku: str = define_column(_SKU, primary_key=True)
    name: str | None = define_column(sql.TEXT)
    category: str | None = define_column(sql.TEXT)
    active: bool = define_column(sql.BOOLEAN, default="false")
    product_version: int = define_column(sql.INTEGER, default="0")
    available: int = define_column(sql.BIGINT, default="0")
    stock_version: int = define_column(sql.BIGINT, default="0")
    turned_version: int = define_column(sql.BIGINT, default="0")


class Purchase(RecommendationsTable, table=True):
    __tablename__ = "purchase"
    __table_args__ = (Index("purchase_user", "user_id", text("placed_at DESC")), _STORAGE)

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    user_id: UUID = define_column(sql.UUID)
    skus: list[str] | None = define_column(sql.ARRAY(_SKU))
    placed_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    outcome: str | None = define_column(sql.TEXT)
    cancelled: bool = define_column(sql.BOOLEAN, default="false")
    counted: bool = define_column(sql.BOOLEAN, default="false")


class Sold(RecommendationsTable, table=True):
    __tablename__ = "sold"
    __table_args__ = (_STORAGE,)

    sku: str = define_column(_SKU, primary_key=True)
    orders: int = define_column(sql.BIGINT)


class Pair(RecommendationsTable, table=True):
    __tablename__ = "pair"
    __table_args__ = (
        CheckConstraint("sku < other", name="pair_check"),
        Index("pair_other", "other", "sku"),
        _STORAGE,
    )

    sku: str = define_column(_SKU, primary_key=True)
    other: str = define_column(_SKU, primary_key=True)
    orders: int = define_column(sql.BIGINT)
