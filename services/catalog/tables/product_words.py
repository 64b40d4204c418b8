"""The table of the words of products, from which a search is answered, and the triggers that keep it.

`store/word_index.py` reads it. docs/adr/0031-words-are-bit-strings.md says why it is as it is.
"""

from sqlalchemy.dialects.postgresql import BIT

from caravan.database import tables as sql
from caravan.database.tables import add_ddl, define_column
from services.catalog.tables.declaring import CatalogTable

BUCKET_SIZE = 4096
_SPARSE_SIZE = 32


class ProductWord(CatalogTable, table=True):
    """Which products have a word: those of a bucket, which are the products whose numbers have the same quotient by
    BUCKET_SIZE. A set bit of `members` is a product, the newest first; a few products are `offsets` instead, the
    remainders. Triggers keep it in the transaction that changes a product. `store/search.py` reads it.

    `field`: 1 the name or the sku, 2 the category, 3 the description, 0 what is no word of a text. Words are lexemes,
    and with a sign before them: `^` the first one to three letters of words, `#` a lexeme of the sku that has a digit,
    `=` a category, `@` an attribute, `*` alone every product. Those of withdrawn products have a `~` before all that.
    """

    __tablename__ = "product_word"
    __table_args__ = ({"postgresql_with": {"fillfactor": "80"}},)

    word: str = define_column(sql.TEXT(collation="C"), primary_key=True)
    field: int = define_column(sql.SMALLINT, primary_key=True)
    bucket: int = define_column(sql.INTEGER, primary_key=True)
    offsets: list[int] | None = define_column(sql.ARRAY(sql.SMALLINT))
    members: str | None = define_column(BIT(BUCKET_SIZE))


add_ddl(CatalogTable, "CREATE SEQUENCE product_number_sequence")
add_ddl(
    CatalogTable,
    """
    CREATE FUNCTION number_product() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM product WHERE sku = NEW.sku) THEN
            NEW.number := nextval('product_number_sequence');
        END IF;
        RETURN NEW;
    END $$
    """,
)
add_ddl(
    CatalogTable,
    "CREATE TRIGGER product_number BEFORE INSERT ON product FOR EACH ROW EXECUTE FUNCTION number_product()",
)
add_ddl(
    CatalogTable,
    r"""
    CREATE FUNCTION product_words(sku text, name text, category text, attributes jsonb, active boolean, search tsvector)
    RETURNS TABLE (word text, field smallint) LANGUAGE sql STABLE PARALLEL SAFE AS $$
        WITH texts AS (
            SELECT lexeme, 1::smallint AS field FROM unnest(to_tsvector('english', folded($2)))
            UNION
            SELECT lexeme, CASE weight WHEN 'B' THEN 2 ELSE 3 END::smallint
            FROM unnest($6), unnest(weights) AS weight WHERE weight <> 'A'
            UNION
            SELECT lexeme, 1::smallint FROM unnest(to_tsvector('simple', $1)) WHERE lexeme !~ '[0-9]'
        )
        SELECT CASE WHEN $5 THEN '' ELSE '~' END || entry.word, entry.field FROM (
            SELECT lexeme AS word, field FROM texts
            UNION SELECT '^' || left(lexeme, length), field FROM texts, generate_series(1, 3) AS length
            UNION SELECT '#' || lexeme, 1::smallint FROM unnest(to_tsvector('simple', $1)) WHERE lexeme ~ '[0-9]'
            UNION SELECT '=' || $3, 0::smallint
            UNION SELECT '*', 0::smallint
            UNION SELECT left('@' || key || '=' || CASE jsonb_typeof(item)
                WHEN 'number' THEN trim_scale((item #>> '{}')::numeric)::text ELSE item #>> '{}' END, 100), 0::smallint
            FROM jsonb_each($4), LATERAL (
                SELECT value AS item UNION ALL
                SELECT jsonb_array_elements(value) WHERE jsonb_typeof(value) = 'array'
            ) AS items WHERE jsonb_typeof(item) IN ('string', 'number', 'boolean')
        ) AS entry
    $$
    """,
)
add_ddl(
    CatalogTable,
    f"""
    CREATE FUNCTION product_bits(offsets smallint[], members bit) RETURNS bit({BUCKET_SIZE})
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT coalesce($2::bit({BUCKET_SIZE}),
            (SELECT bit_or(B'1'::bit({BUCKET_SIZE}) >> ({BUCKET_SIZE - 1} - position)) FROM unnest($1) AS position))
    $$
    """,
)
# A function, so that the planner expects few rows: a search must not be taken for a long query.
add_ddl(
    CatalogTable,
    """
    CREATE FUNCTION find_product_words(low text, high text, last_bucket int) RETURNS SETOF product_word
    LANGUAGE plpgsql STABLE ROWS 3 AS $$
    BEGIN
        RETURN QUERY SELECT * FROM product_word WHERE word >= low AND word < high AND bucket <= last_bucket;
    END $$
    """,
)
add_ddl(
    CatalogTable,
    f"""
    CREATE FUNCTION add_product_words(words text[], fields smallint[], numbers bigint[]) RETURNS void LANGUAGE sql AS $$
        INSERT INTO product_word AS present (word, field, bucket, offsets, members)
        SELECT word, field, number / {BUCKET_SIZE},
            CASE WHEN count(*) <= {_SPARSE_SIZE} THEN array_agg((number % {BUCKET_SIZE})::smallint) END,
            CASE WHEN count(*) > {_SPARSE_SIZE}
                THEN product_bits(array_agg((number % {BUCKET_SIZE})::smallint), NULL) END
        FROM unnest($1, $2, $3) AS added (word, field, number) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (word, field, bucket) DO UPDATE SET
            offsets = CASE WHEN cardinality(present.offsets) + cardinality(excluded.offsets) <= {_SPARSE_SIZE}
                THEN present.offsets || excluded.offsets END,
            members = CASE WHEN cardinality(present.offsets) + cardinality(excluded.offsets) <= {_SPARSE_SIZE} THEN NULL
                ELSE product_bits(present.offsets, present.members)
                    | product_bits(excluded.offsets, excluded.members) END
    $$
    """,
)
add_ddl(
    CatalogTable,
    f"""
    CREATE FUNCTION remove_product_words(words text[], fields smallint[], numbers bigint[])
    RETURNS void LANGUAGE sql AS $$
        UPDATE product_word AS present SET
            offsets = CASE WHEN present.offsets IS NOT NULL THEN
                ARRAY(SELECT kept FROM unnest(present.offsets) AS kept WHERE kept <> ALL(gone.offsets)) END,
            members = present.members & ~product_bits(gone.offsets, NULL)
        FROM (
            SELECT word, field, number / {BUCKET_SIZE} AS bucket,
                array_agg((number % {BUCKET_SIZE})::smallint) AS offsets
            FROM unnest($1, $2, $3) AS removed (word, field, number) GROUP BY 1, 2, 3
        ) AS gone
        WHERE present.word = gone.word AND present.field = gone.field AND present.bucket = gone.bucket
    $$
    """,
)
# Changes of words take turns. One lock for all: an import that adds products and changes others would take those of two
# buckets in another order than one that only changes them.
add_ddl(
    CatalogTable,
    """
    CREATE FUNCTION index_new_products() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM new_rows) THEN
            RETURN NULL;
        END IF;
        PERFORM pg_advisory_xact_lock(67, 0);
        PERFORM add_product_words(array_agg(word), array_agg(field), array_agg(number))
        FROM new_rows, product_words(sku, name, category, attributes, active, search);
        RETURN NULL;
    END $$
    """,
)
add_ddl(
    CatalogTable,
    """
    CREATE FUNCTION index_changed_products() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        this record;
    BEGIN
        IF NOT EXISTS (
            SELECT FROM new_rows AS after JOIN old_rows AS before USING (sku)
            WHERE (before.search, before.attributes, before.active)
                IS DISTINCT FROM (after.search, after.attributes, after.active)
        ) THEN
            RETURN NULL;
        END IF;
        PERFORM pg_advisory_xact_lock(67, 0);
        FOR this IN
            SELECT added, array_agg(word) AS words, array_agg(field) AS fields, array_agg(after.number) AS numbers
            FROM new_rows AS after JOIN old_rows AS before USING (sku), LATERAL (
                SELECT word, field, bool_or(is_new) AS added FROM (
                    SELECT word, field, true AS is_new
                    FROM product_words(
                        after.sku, after.name, after.category, after.attributes, after.active, after.search)
                    UNION ALL SELECT word, field, false
                    FROM product_words(
                        before.sku, before.name, before.category, before.attributes, before.active, before.search)
                ) AS words GROUP BY word, field HAVING count(*) = 1
            ) AS changes
            WHERE (before.search, before.attributes, before.active)
                IS DISTINCT FROM (after.search, after.attributes, after.active)
            GROUP BY added
        LOOP
            IF this.added THEN
                PERFORM add_product_words(this.words, this.fields, this.numbers);
            ELSE
                PERFORM remove_product_words(this.words, this.fields, this.numbers);
            END IF;
        END LOOP;
        RETURN NULL;
    END $$
    """,
)
add_ddl(
    CatalogTable,
    "CREATE TRIGGER product_words_added AFTER INSERT ON product REFERENCING NEW TABLE AS new_rows"
    " FOR EACH STATEMENT EXECUTE FUNCTION index_new_products()",
)
add_ddl(
    CatalogTable,
    "CREATE TRIGGER product_words_changed AFTER UPDATE ON product"
    " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
    " FOR EACH STATEMENT EXECUTE FUNCTION index_changed_products()",
)
