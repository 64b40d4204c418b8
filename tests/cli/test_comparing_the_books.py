"""A replay compares each order with its invoice and its mails, and finds all that does not agree, and only that."""

from collections import Counter
from dataclasses import replace

import pytest

from cli.order_comparison import OrderAudit, compute_expected_emails, compute_totals, find_differences

DELIVERED = OrderAudit(
    order_id="o1",
    name="700001",
    invoiced={"A": 2, "B": 1},
    status="delivered",
    is_cancelling=False,
    total=500,
    ordered={"A": 2, "B": 1},
    captured=500,
    refunded=0,
    provider_captured=500,
    provider_refunded=0,
    shipped={"A": 2, "B": 1},
    left_stock={"A": 2, "B": 1},
    emails=Counter(order_confirmed=1, order_shipped=1),
)
REFUNDED = replace(
    DELIVERED,
    status="refunded",
    refunded=500,
    provider_refunded=500,
    shipped={},
    left_stock={},
    emails=Counter(order_confirmed=1, order_cancelled=1),
)
CANCELLED = replace(
    DELIVERED,
    status="cancelled",
    captured=0,
    provider_captured=0,
    shipped={},
    left_stock={},
    emails=Counter(order_cancelled=1),
)
REJECTED = replace(CANCELLED, status="rejected", emails=Counter(order_rejected=1))
UNPAID = replace(CANCELLED, status="payment_failed", emails=Counter(payment_failed=1))


@pytest.mark.parametrize(
    "facts", [DELIVERED, REFUNDED, CANCELLED, REJECTED, UNPAID, replace(REFUNDED, emails=Counter(order_cancelled=1))]
)
def test_an_order_whose_books_agree_has_no_difference(facts: OrderAudit) -> None:
    assert find_differences([facts]) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            replace(DELIVERED, status="paid", shipped={}, left_stock={}, emails=Counter(order_confirmed=1)),
            "is still paid",
        ),
        (replace(DELIVERED, is_cancelling=True), "its cancellation has no answer"),
        (replace(DELIVERED, ordered={"A": 2}, shipped={"A": 2}, left_stock={"A": 2}), "the invoice 3 of 2"),
        (replace(DELIVERED, emails=Counter(order_confirmed=1)), "expected order_confirmed, order_shipped"),
        (replace(DELIVERED, emails=Counter(order_confirmed=2, order_shipped=1)), "order_confirmed ×2"),
        (replace(REFUNDED, emails=Counter(order_confirmed=2, order_cancelled=1)), "order_confirmed ×2"),
        (replace(CANCELLED, emails=Counter()), "e-mails sent none"),
    ],
)
def test_each_account_that_does_not_agree_is_named_with_its_order(facts: OrderAudit, words: str) -> None:
    found = find_differences([REJECTED, facts])
    assert [difference.order_id for difference in found] == ["o1"] * len(found)
    assert any(words in difference.description for difference in found), found


def test_a_kind_of_mail_that_nobody_expects_is_a_difference() -> None:
    assert find_differences([replace(REJECTED, emails=Counter(order_rejected=1, payment_failed=1))])


def test_the_sums_stand_side_by_side() -> None:
    total = compute_totals([DELIVERED, REFUNDED, REJECTED])
    assert (
        total.processed_total,
        total.captured - total.refunded,
        total.provider_captured - total.provider_refunded,
    ) == (500, 500, 500)
    assert (
        total.units_ordered,
        total.units_shipped,
        total.units_left_stock,
        total.emails_expected,
        total.emails_sent,
    ) == (3, 3, 3, 5, 5)
    assert total.orders == Counter(delivered=1, refunded=1, rejected=1)
    assert compute_expected_emails(DELIVERED) == DELIVERED.emails
