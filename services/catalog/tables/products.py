"""The table of products, and how their texts are folded for the search."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Computed, Index, text

from caravan.database import tables as sql
from caravan.database.tables import add_ddl, define_column
from services.catalog.tables.declaring import CatalogTable

# As `services.catalog.model.fold_accents` does it; a test holds the two together.
add_ddl(
    CatalogTable,
    r"""
    CREATE FUNCTION folded(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT normalize(regexp_replace(normalize(
            replace(replace(replace(replace(replace(replace(replace(replace(
                translate(given, 'łŁøØđĐðÐħĦŧŦıς', 'lLoOdDdDhHtTiσ'),
            'ß', 'ss'), 'ẞ', 'SS'), 'æ', 'ae'), 'Æ', 'AE'), 'œ', 'oe'), 'Œ', 'OE'), 'þ', 'th'), 'Þ', 'TH'),
            NFKD), '[\u0300-\u036f"""
    r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670"
    r"""]+', '', 'g'), NFC)
    $$
    """,
    before_tables=True,
)


_IS_ACTIVE = text("active")


class Product(CatalogTable, table=True):
    __tablename__ = "product"
    __table_args__ = (
        CheckConstraint("price > 0", name="product_price_check"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="product_currency_check"),
        CheckConstraint("version > 0", name="product_version_check"),
        Index("product_search", "search", postgresql_using="gin"),
        Index(
            "product_attributes",
            "attributes",
            postgresql_using="gin",
            postgresql_ops={"attributes": "jsonb_path_ops"},
        ),
        Index("product_sku_prefix", text("lower(sku) text_pattern_ops")),
        Index("product_newest", text("created_at DESC"), text("sku DESC"), postgresql_where=_IS_ACTIVE),
        Index("product_category", "category", text("created_at DESC"), text("sku DESC"), postgresql_where=_IS_ACTIVE),
        Index("product_name", text("left(name, 60)"), "sku", postgresql_where=_IS_ACTIVE),
        Index("product_price", "price", "sku", postgresql_where=_IS_ACTIVE),
        Index(
            "product_price_in_currency",
            text("(currency || lpad(price::text, 19, '0'))"),
            "sku",
            postgresql_where=_IS_ACTIVE,
        ),
        Index("product_number", "number", unique=True),
    )

    sku: str = define_column(sql.TEXT, primary_key=True)
    name: str = define_column(sql.TEXT)
    description: str = define_column(sql.TEXT)
    category: str = define_column(sql.TEXT)
    price: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)
    attributes: dict[str, Any] = define_column(sql.JSONB)
    active: bool = define_column(sql.BOOLEAN)
    version: int = define_column(sql.INTEGER)
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    updated_at: datetime = define_column(sql.TIMESTAMPTZ)
    search: str = define_column(
        sql.TSVECTOR,
        Computed(
            "setweight(to_tsvector('simple', sku), 'A') || setweight(to_tsvector('english', folded(name)), 'A')"
            " || setweight(to_tsvector('english', folded(category)), 'B')"
            " || setweight(to_tsvector('english', folded(description)), 'C')",
            persisted=True,
        ),
    )
    number: int = define_column(sql.BIGINT, default="0")
    """Counts products in the order in which they were made; a trigger gives it."""
