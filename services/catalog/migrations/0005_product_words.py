"""An index of words from which a search is answered in the same time however many products have its words, and the
number of each product, in the order in which they were made. A release before this one may write beside it: triggers
keep both. Whoever reads or writes products waits while it is made, about five seconds for each 10,000 products on two
busy cores.
"""

from alembic import op

revision = "catalog0005"
down_revision = "catalog0004"

NUMBER_PRODUCT = """
CREATE FUNCTION number_product() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM product WHERE sku = NEW.sku) THEN
        NEW.number := nextval('product_number_sequence');
    END IF;
    RETURN NEW;
END $$
"""
PRODUCT_WORDS = """
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
"""
PRODUCT_BITS = """
CREATE FUNCTION product_bits(offsets smallint[], members bit) RETURNS bit(4096)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce($2::bit(4096),
        (SELECT bit_or(B'1'::bit(4096) >> (4095 - position)) FROM unnest($1) AS position))
$$
"""
FIND_PRODUCT_WORDS = """
CREATE FUNCTION find_product_words(low text, high text, last_bucket int) RETURNS SETOF product_word
LANGUAGE plpgsql STABLE ROWS 3 AS $$
BEGIN
    RETURN QUERY SELECT * FROM product_word WHERE word >= low AND word < high AND bucket <= last_bucket;
END $$
"""
ADD_PRODUCT_WORDS = """
CREATE FUNCTION add_product_words(words text[], fields smallint[], numbers bigint[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO product_word AS present (word, field, bucket, offsets, members)
    SELECT word, field, number / 4096,
        CASE WHEN count(*) <= 32 THEN array_agg((number % 4096)::smallint) END,
        CASE WHEN count(*) > 32
            THEN product_bits(array_agg((number % 4096)::smallint), NULL) END
    FROM unnest($1, $2, $3) AS added (word, field, number) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (word, field, bucket) DO UPDATE SET
        offsets = CASE WHEN cardinality(present.offsets) + cardinality(excluded.offsets) <= 32
            THEN present.offsets || excluded.offsets END,
        members = CASE WHEN cardinality(present.offsets) + cardinality(excluded.offsets) <= 32 THEN NULL
            ELSE product_bits(present.offsets, present.members)
                | product_bits(excluded.offsets, excluded.members) END
$$
"""
REMOVE_PRODUCT_WORDS = """
CREATE FUNCTION remove_product_words(words text[], fields smallint[], numbers bigint[])
RETURNS void LANGUAGE sql AS $$
    UPDATE product_word AS present SET
        offsets = CASE WHEN present.offsets IS NOT NULL THEN
            ARRAY(SELECT kept FROM unnest(present.offsets) AS kept WHERE kept <> ALL(gone.offsets)) END,
        members = present.members & ~product_bits(gone.offsets, NULL)
    FROM (
        SELECT word, field, number / 4096 AS bucket,
            array_agg((number % 4096)::smallint) AS offsets
        FROM unnest($1, $2, $3) AS removed (word, field, number) GROUP BY 1, 2, 3
    ) AS gone
    WHERE present.word = gone.word AND present.field = gone.field AND present.bucket = gone.bucket
$$
"""
INDEX_NEW_PRODUCTS = """
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
"""
INDEX_CHANGED_PRODUCTS = """
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
"""
FILL = """
DO $$
DECLARE
    this record;
BEGIN
    FOR this IN SELECT DISTINCT number / 4096 AS bucket FROM product ORDER BY 1 LOOP
        PERFORM add_product_words(array_agg(word), array_agg(field), array_agg(number))
        FROM product, product_words(sku, name, category, attributes, active, search)
        WHERE number >= this.bucket * 4096 AND number < (this.bucket + 1) * 4096;
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute("CREATE SEQUENCE product_number_sequence")
    op.execute("ALTER TABLE product ADD COLUMN number bigint NOT NULL DEFAULT 0")
    op.execute("""
        UPDATE product SET number = counted.number
        FROM (SELECT sku, row_number() OVER (ORDER BY created_at, sku) AS number FROM product) AS counted
        WHERE counted.sku = product.sku
    """)
    op.execute("SELECT setval('product_number_sequence', (SELECT coalesce(max(number), 0) + 1 FROM product), false)")
    op.execute("CREATE UNIQUE INDEX product_number ON product (number)")
    op.execute("""
        CREATE TABLE product_word (
            word text COLLATE "C" NOT NULL,
            field smallint NOT NULL,
            bucket int NOT NULL,
            offsets smallint[],
            members bit(4096),
            PRIMARY KEY (word, field, bucket)
        ) WITH (fillfactor = 80)
    """)
    for function in (
        NUMBER_PRODUCT,
        PRODUCT_WORDS,
        PRODUCT_BITS,
        FIND_PRODUCT_WORDS,
        ADD_PRODUCT_WORDS,
        REMOVE_PRODUCT_WORDS,
        INDEX_NEW_PRODUCTS,
        INDEX_CHANGED_PRODUCTS,
    ):
        op.execute(function)
    op.execute(FILL)
    op.execute("CREATE TRIGGER product_number BEFORE INSERT ON product FOR EACH ROW EXECUTE FUNCTION number_product()")
    op.execute(
        "CREATE TRIGGER product_words_added AFTER INSERT ON product"
        " REFERENCING NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION index_new_products()"
    )
    op.execute(
        "CREATE TRIGGER product_words_changed AFTER UPDATE ON product"
        " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION index_changed_products()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER product_words_changed ON product")
    op.execute("DROP TRIGGER product_words_added ON product")
    op.execute("DROP TRIGGER product_number ON product")
    op.execute("DROP FUNCTION index_changed_products, index_new_products, remove_product_words, add_product_words")
    op.execute("DROP FUNCTION find_product_words, product_bits, product_words, number_product")
    op.execute("DROP TABLE product_word")
    op.execute("ALTER TABLE product DROP COLUMN number")
    op.execute("DROP SEQUENCE product_number_sequence")
