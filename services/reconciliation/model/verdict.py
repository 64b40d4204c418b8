"""Judges the books of one order. Pure: what is written here is known of no other service's code.

What may still change by itself says nothing: what is younger than the watermark, has a message in an outbox, or a saga,
a charge or a refund under way. It is looked at again, until it is at rest or has stood still for too long. Parcels may
travel for weeks: an order that is shipped is at rest until it changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from services.reconciliation.model.books import OrderBooks, PaymentPage, StatementLine
from services.reconciliation.model.classes import Gap


@dataclass(frozen=True, slots=True)
class Verdict:
    """`is_final`: nothing is on its way any more, so that the order need not be looked at until it changes."""

    gaps: tuple[Gap, ...] = ()
    is_final: bool = True


_IN_ORDER = Verdict()
_TOO_EARLY = Verdict(is_final=False)


def assess_order(books: OrderBooks, watermark: datetime, stuck_before: datetime) -> Verdict:
    """`stuck_before`: an order under way in which nothing has changed since then is stuck."""
    changed_at = books.get_changed_at()
    if changed_at is None:
        return _IN_ORDER
    if changed_at > watermark:
        return _TOO_EARLY
    payment, saga, order = books.payment, books.saga, books.order
    is_money_at_rest = payment is None or not (payment.is_open or payment.refunded is None)
    is_travelling = order is not None and order.is_shipped and not order.is_undone
    is_at_rest = (
        is_money_at_rest
        and not books.has_unsent
        and (saga is None or saga.is_closed or is_travelling or _holds_nothing(books))
        and (order is None or order.is_delivered or order.is_undone or is_travelling)
    )
    gaps: list[Gap] = []
    if is_money_at_rest and not books.has_unsent:
        gaps += _check_money(books)
        is_captured = _sum_ours(payment)[0] > 0 or any(line.kind == "capture" for line in books.lines)
        if order is not None and order.is_paid and not is_captured:
            gaps.append(_make_gap(books, "paid_without_capture", order.amount or 0))
    if is_at_rest:
        gaps += _check_outcome(books)
    elif changed_at <= stuck_before:
        gaps.append(Gap("order_stuck", str(books.order_id), books.order_id, details={"since": changed_at.isoformat()}))
    if is_at_rest and not gaps:
        return _IN_ORDER
    return Verdict(tuple(gaps), is_at_rest)


def _holds_nothing(books: OrderBooks) -> bool:
    """There is no such order, and neither money nor goods that wait for it. A saga that heard of its refund alone, as
    after a restore, waits for the order for ever and can do no harm.
    """
    captured, refunded = _sum_ours(books.payment)
    reservation, shipment = books.reservation, books.shipment
    return (
        books.order is None
        and captured <= refunded
        and (reservation is None or reservation.state not in ("held", "shipped"))
        and (shipment is None or not shipment.is_shipped)
    )


def _check_money(books: OrderBooks) -> Iterator[Gap]:
    """What holds whatever has become of the order."""
    payment, lines = books.payment, books.lines
    captures = [line for line in lines if line.kind == "capture"]
    given_back = [line for line in lines if line.kind == "refund"]
    captured_ours, refunded_ours = _sum_ours(payment)
    captured_theirs, refunded_theirs = (sum(line.amount for line in found) for found in (captures, given_back))

    def make_gap(name: str, amount: int, **details: object) -> Gap:
        return _make_gap(books, name, amount, ours=captured_ours, provider=captured_theirs, **details)

    is_double = len(captures) > 1 or (payment is not None and len(payment.captured) > 1)
    if is_double:
        most = max(captured_ours, captured_theirs)
        due = payment.amount if payment else captures[0].amount
        yield make_gap("double_capture", most - due, keys=[line.key for line in captures])
    is_above = refunded_theirs > captured_theirs or refunded_ours > captured_ours
    if is_above:
        excess = max(refunded_theirs - captured_theirs, refunded_ours - captured_ours)
        yield make_gap("refund_above_capture", excess, refunded=refunded_ours, provider_refunded=refunded_theirs)
    ours = _list_our_keys(books)
    for line in lines:
        is_explained = line.key in ours or (is_double if line.kind == "capture" else is_above)
        if not is_explained:
            yield make_gap("entry_unknown_to_us", line.amount, key=line.key, kind=line.kind)
    known = {line.key for line in lines}
    for key, amount in ours.items():
        if key not in known and not (is_above and key.endswith(":refund")):
            yield make_gap("entry_unknown_to_provider", amount, key=key)
    if not is_double and not is_above:
        yield from _check_amounts(books, {line.key: line for line in lines if line.key in ours}, ours)


def _check_amounts(books: OrderBooks, lines: dict[str, StatementLine], ours: dict[str, int]) -> Iterator[Gap]:
    payment, order = books.payment, books.order
    if payment is None or not payment.captured:
        return
    for key, line in lines.items():
        if line.currency != payment.currency:
            yield _make_gap(
                books, "wrong_currency", line.amount, key=key, ours=payment.currency, provider=line.currency
            )
            return
        if line.amount != ours[key]:
            yield _make_gap(
                books, "wrong_amount", abs(line.amount - ours[key]), key=key, ours=ours[key], provider=line.amount
            )
            return
    if order is not None and order.amount is not None:
        if order.currency != payment.currency:
            yield _make_gap(books, "wrong_currency", payment.amount, order=order.currency, ours=payment.currency)
        elif order.amount != payment.amount:
            yield _make_gap(
                books, "wrong_amount", abs(order.amount - payment.amount), order=order.amount, ours=payment.amount
            )
        elif payment.refunded and payment.refunded < payment.amount:
            yield _make_gap(
                books, "wrong_amount", payment.amount - payment.refunded, captured=payment.amount, ours=payment.refunded
            )


def _check_outcome(books: OrderBooks) -> Iterator[Gap]:
    """What must be so once the order has ended."""
    order, payment, shipment, reservation = books.order, books.payment, books.shipment, books.reservation
    captured, refunded = _sum_ours(payment)
    kept = captured - refunded
    if order is None:
        if kept > 0:  # goods that have left are not given away
            has_left = (shipment is not None and shipment.is_shipped) or (
                reservation is not None and reservation.state == "shipped"
            )
            yield _make_gap(books, "shipped_without_order" if has_left else "captured_without_order", kept)
        if reservation is not None and reservation.state == "held":
            yield _make_gap(books, "leaked_reservation", 0, units=reservation.units)
    else:
        if order.is_undone and kept > 0:
            yield _make_gap(books, "capture_not_returned", kept, captured=captured, refunded=refunded)
        if not order.is_undone and 0 < refunded <= captured:
            yield _make_gap(books, "refund_without_cause", refunded)
        if order.is_undone and reservation is not None and reservation.state == "held":
            yield _make_gap(books, "leaked_reservation", 0, units=reservation.units)
        yield from _check_units(books, order.units)
    if shipment is not None and shipment.is_shipped:
        is_paid_for = captured > 0 and not (order is not None and order.is_undone and kept <= 0)
        if not is_paid_for and not (order is not None and order.is_paid and not captured):
            yield _make_gap(books, "shipped_unpaid", order.amount or 0 if order else 0, units=shipment.units)
        if reservation is None or reservation.state != "shipped":
            yield _make_gap(books, "shipped_without_stock", 0, reservation=reservation and reservation.state)


def _check_units(books: OrderBooks, ordered: dict[str, int]) -> Iterator[Gap]:
    shipment, reservation = books.shipment, books.reservation
    if shipment is not None and shipment.is_shipped and shipment.units != ordered:
        yield _make_gap(books, "wrong_units", 0, ordered=ordered, shipped=shipment.units)
    elif reservation is not None and reservation.state in ("held", "shipped") and reservation.units != ordered:
        yield _make_gap(books, "wrong_units", 0, ordered=ordered, reserved=reservation.units)


def _sum_ours(payment: PaymentPage | None) -> tuple[int, int]:
    """Captured and given back, by our own books."""
    return (len(payment.captured) * payment.amount, payment.refunded or 0) if payment else (0, 0)


def _list_our_keys(books: OrderBooks) -> dict[str, int]:
    """What moved by our own books, under the keys that the provider knows it by."""
    payment = books.payment
    if payment is None:
        return {}
    keys = {f"{books.order_id}:{attempt}": payment.amount for attempt in payment.captured}
    if payment.refunded:
        keys[f"{books.order_id}:refund"] = payment.refunded
    return keys


def _make_gap(books: OrderBooks, name: str, amount: int, **details: object) -> Gap:
    currency = books.payment.currency if books.payment else (books.order.currency or "") if books.order else ""
    if not currency and books.lines:
        currency = books.lines[0].currency
    return Gap(name, str(books.order_id), books.order_id, amount, currency, details)
