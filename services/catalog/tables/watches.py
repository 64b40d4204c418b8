"""The tables of categories, and of who waits for news of a product."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint

from caravan.database import tables as sql
from caravan.database.tables import define_column
from services.catalog.tables.declaring import CatalogTable


class Category(CatalogTable, table=True):
    __tablename__ = "category"

    name: str = define_column(sql.TEXT, primary_key=True)
    attributes: dict[str, Any] = define_column(sql.JSON)
    free: bool = define_column(sql.BOOLEAN)
    version: int = define_column(sql.INTEGER)


class Watch(CatalogTable, table=True):
    """`price` and `currency`: what the product cost when the user began to watch it."""

    __tablename__ = "watch"
    __table_args__ = (UniqueConstraint("sku", "user_id", name="watch_sku_user_id_key"),)

    id: UUID = define_column(sql.UUID, primary_key=True)
    sku: str = define_column(sql.TEXT)
    user_id: UUID = define_column(sql.UUID)
    email: str = define_column(sql.TEXT)
    since: datetime = define_column(sql.TIMESTAMPTZ)
    price: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)


class Alert(CatalogTable, table=True):
    __tablename__ = "alert"
    __table_args__ = (
        CheckConstraint("kind IN ('price_drop', 'back_in_stock')", name="alert_kind_check"),
        Index("alert_oldest", "raised_at"),
    )

    sku: str = define_column(sql.TEXT, primary_key=True)
    kind: str = define_column(sql.TEXT, primary_key=True)
    raised_at: datetime = define_column(sql.TIMESTAMPTZ)


class Available(CatalogTable, table=True):
    __tablename__ = "available"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    sku: str = define_column(sql.TEXT, primary_key=True)
    units: int = define_column(sql.BIGINT)
    stock_version: int = define_column(sql.BIGINT)
