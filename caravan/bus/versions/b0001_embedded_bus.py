"""The embedded bus: topic logs with a cursor per group, deliveries for queues and retries, dead letters, bindings, and
who serves what where.
"""

from alembic import op

revision = "b0001"
down_revision = None
branch_labels = ("bus",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE topic_log (
            position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            topic text NOT NULL,
            key text NOT NULL,
            message_id uuid NOT NULL,
            body bytea NOT NULL,
            published_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX topic_log_by_topic ON topic_log (topic, position)")
    op.execute(
        "CREATE TABLE cursor (subscription text PRIMARY KEY, topic text NOT NULL, position bigint NOT NULL) WITH "
        "(fillfactor = 10)"
    )
    op.execute(
        "CREATE TABLE binding (exchange text, pattern text, subscription text, PRIMARY KEY (exchange, pattern, "
        "subscription))"
    )
    op.execute("""
        CREATE TABLE delivery (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            subscription text NOT NULL,
            channel text NOT NULL,
            key text NOT NULL,
            body bytea NOT NULL,
            attempt int NOT NULL DEFAULT 1,
            due_at timestamptz,
            published_at timestamptz NOT NULL DEFAULT now()
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("CREATE INDEX delivery_by_subscription ON delivery (subscription, id)")
    op.execute("""
        CREATE TABLE dead_letter (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            subscription text NOT NULL,
            channel text NOT NULL,
            key text NOT NULL,
            body bytea NOT NULL,
            attempt int NOT NULL,
            reason text NOT NULL,
            died_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute(
        "CREATE TABLE registry (service text, url text, seen_at timestamptz NOT NULL, PRIMARY KEY (service, url))"
    )
    op.execute("""
        CREATE FUNCTION publish(kinds text[], channels text[], routes text[], keys text[], ids uuid[], bodies bytea[])
            RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            -- One writer of a topic at a time: positions then become visible in their own order,
            -- so that a cursor never steps over a late one.
            PERFORM pg_advisory_xact_lock(66, topic) FROM (
                SELECT DISTINCT hashtext(c) AS topic FROM unnest(kinds, channels) AS m(k, c) WHERE k = 'topic'
                    ORDER BY 1
            ) AS locks;
            INSERT INTO topic_log (topic, key, message_id, body)
                SELECT c, key, id, body FROM unnest(kinds, channels, keys, ids, bodies)
                    WITH ORDINALITY AS m(k, c, key, id, body, n) WHERE k = 'topic' ORDER BY n;
            INSERT INTO delivery (subscription, channel, key, body)
                SELECT c, c, key, body FROM unnest(kinds, channels, keys, bodies)
                    WITH ORDINALITY AS m(k, c, key, body, n) WHERE k = 'queue' ORDER BY n;
            INSERT INTO delivery (subscription, channel, key, body)
                SELECT DISTINCT ON (n, b.subscription) b.subscription, c, key, body
                FROM unnest(kinds, channels, routes, keys, bodies) WITH ORDINALITY AS m(k, c, route, key, body, n)
                JOIN binding b ON b.exchange = c AND route ~ b.pattern
                WHERE k = 'exchange' ORDER BY n, b.subscription;
        END $$
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION publish")
    op.execute("DROP TABLE registry, dead_letter, delivery, binding, cursor, topic_log")
