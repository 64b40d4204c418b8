"""Search without the vowel signs of Arabic and Hebrew, and with either sigma."""

from alembic import op

revision = "catalog0003"
down_revision = "catalog0002"

# As `services.catalog.model.fold` does it; a test holds the two together.
FOLDED = r"""
    CREATE OR REPLACE FUNCTION folded(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT normalize(regexp_replace(normalize(
            replace(replace(replace(replace(replace(replace(replace(replace(
                translate(given, 'łŁøØđĐðÐħĦŧŦı{letters}', 'lLoOdDdDhHtTi{plain}'),
            'ß', 'ss'), 'ẞ', 'SS'), 'æ', 'ae'), 'Æ', 'AE'), 'œ', 'oe'), 'Œ', 'OE'), 'þ', 'th'), 'Þ', 'TH'),
            NFKD), '[\u0300-\u036f{marks}]+', '', 'g'), NFC)
    $$
"""
MARKS = r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670"


def upgrade() -> None:
    op.execute(FOLDED.format(letters="ς", plain="σ", marks=MARKS))
    _rebuild_search_column()


def downgrade() -> None:
    op.execute(FOLDED.format(letters="", plain="", marks=""))
    _rebuild_search_column()


def _rebuild_search_column() -> None:
    """A stored column keeps what the function said when its row was written."""
    op.execute("ALTER TABLE product DROP COLUMN search")
    op.execute(
        """ALTER TABLE product ADD COLUMN search tsvector NOT NULL GENERATED ALWAYS AS (
            setweight(to_tsvector('simple', sku), 'A') || setweight(to_tsvector('english', folded(name)), 'A')
            || setweight(to_tsvector('english', folded(category)), 'B')
            || setweight(to_tsvector('english', folded(description)), 'C')
        ) STORED"""
    )
    op.execute("CREATE INDEX product_search ON product USING gin (search)")
