"""Credit notes have numbers of their own, without holes; those of before are numbered in the order in which the money
went back, and drawn anew.
"""

from alembic import op

revision = "payments0006"
down_revision = "payments0005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE credit_note (
            number bigint PRIMARY KEY CHECK (number > 0),
            order_id uuid NOT NULL UNIQUE REFERENCES invoice (order_id),
            issued_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        INSERT INTO credit_note SELECT row_number() OVER (ORDER BY r.refunded_at, r.order_id), r.order_id, r.refunded_at
        FROM refund r JOIN invoice i ON i.order_id = r.order_id WHERE r.state = 'done'
    """)
    op.execute("UPDATE invoice i SET revision = i.revision + 1 FROM credit_note c WHERE c.order_id = i.order_id")
    # A sequence would leave holes where a transaction rolls back.
    op.execute("CREATE TABLE credit_note_counter (last bigint NOT NULL)")
    op.execute("INSERT INTO credit_note_counter SELECT count(*) FROM credit_note")


def downgrade() -> None:
    op.execute("DROP TABLE credit_note_counter, credit_note")
