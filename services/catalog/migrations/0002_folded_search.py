"""Search without accents and letter variants; watches with the price at which they began, which alerts are compared
with.
"""

from alembic import op

revision = "catalog0002"
down_revision = "catalog0001"

# As `services.catalog.model.fold` does it; a test holds the two together.
FOLDED = r"""
    CREATE FUNCTION folded(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT normalize(regexp_replace(normalize(
            replace(replace(replace(replace(replace(replace(replace(replace(
                translate(given, 'łŁøØđĐðÐħĦŧŦı', 'lLoOdDdDhHtTi'),
            'ß', 'ss'), 'ẞ', 'SS'), 'æ', 'ae'), 'Æ', 'AE'), 'œ', 'oe'), 'Œ', 'OE'), 'þ', 'th'), 'Þ', 'TH'),
            NFKD), '[\u0300-\u036f]+', '', 'g'), NFC)
    $$
"""
SEARCH = """
    ALTER TABLE product ADD COLUMN search tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', sku), 'A') || setweight(to_tsvector('english', {name}), 'A')
        || setweight(to_tsvector('english', {category}), 'B') || setweight(to_tsvector('english', {description}), 'C')
    ) STORED
"""


def upgrade() -> None:
    op.execute(FOLDED)
    op.execute("ALTER TABLE product DROP COLUMN search")
    op.execute(SEARCH.format(name="folded(name)", category="folded(category)", description="folded(description)"))
    op.execute("CREATE INDEX product_search ON product USING gin (search)")
    op.execute("ALTER TABLE watch ADD COLUMN price bigint, ADD COLUMN currency text")
    op.execute("UPDATE watch w SET price = p.price, currency = p.currency FROM product p WHERE p.sku = w.sku")
    op.execute("DELETE FROM watch WHERE price IS NULL")
    op.execute("ALTER TABLE watch ALTER COLUMN price SET NOT NULL, ALTER COLUMN currency SET NOT NULL")
    op.execute("ALTER TABLE alert DROP COLUMN data")


def downgrade() -> None:
    op.execute("ALTER TABLE alert ADD COLUMN data json NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE watch DROP COLUMN price, DROP COLUMN currency")
    op.execute("ALTER TABLE product DROP COLUMN search")
    op.execute(SEARCH.format(name="name", category="category", description="description"))
    op.execute("CREATE INDEX product_search ON product USING gin (search)")
    op.execute("DROP FUNCTION folded")
