"""Whatever happens in whatever order: nothing is promised twice, and nothing appears or disappears without a
movement.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from caravan.clock import new_id
from services.inventory.messages import MovementKind
from services.inventory.model import MovementContext, Reservation, Stock, StockLedger, StockRuleViolation

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SKUS = ("MUG", "LAMP", "ROPE")
orders = st.dictionaries(st.sampled_from([*SKUS, "NEVER-SEEN"]), st.integers(1, 12), min_size=1, max_size=3)


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = StockLedger(Stock(sku) for sku in SKUS)
        self.reservations: dict[UUID, Reservation] = {}
        self.lost = 0

    @rule(
        sku=st.sampled_from(SKUS),
        kind=st.sampled_from(["receive", "adjust", "count", "return"]),
        quantity=st.integers(1, 20),
        less=st.booleans(),
    )
    def move(self, sku: str, kind: MovementKind, quantity: int, less: bool) -> None:
        before = len(self.ledger.movements)
        try:
            self.ledger.apply_movement(
                sku, kind, -quantity if less and kind == "adjust" else quantity, MovementContext("staff:1", "", NOW)
            )
        except StockRuleViolation:
            assert len(self.ledger.movements) == before

    @rule(lines=orders)
    def reserve(self, lines: dict[str, int]) -> None:
        order = new_id()
        free = {sku: self.ledger.stocks[sku].available if sku in self.ledger.stocks else 0 for sku in lines}
        made = self.ledger.reserve_lines(
            order, lines, MovementContext("c", "order", NOW, order), NOW + timedelta(minutes=15)
        )
        assert (made.state == "held") == all(free[sku] >= quantity for sku, quantity in lines.items())
        assert {short.sku for short in made.shortages} == {
            sku for sku, quantity in lines.items() if free[sku] < quantity
        }
        self.reservations[order] = made

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), how=st.sampled_from(["release", "ship"]), times=st.integers(1, 3))
    def end(self, data: st.DataObject, how: str, times: int) -> None:
        reservation = list(self.reservations.values())[data.draw(st.integers(0, len(self.reservations) - 1))]
        for again in range(times):
            before = len(self.ledger.movements)
            if how == "release":
                self.ledger.release_reservation(reservation, MovementContext("c", "no more", NOW, reservation.order_id))
            else:
                self.ledger.ship_reservation(reservation, MovementContext("c", "parcel", NOW, reservation.order_id))
            assert not again or len(self.ledger.movements) == before, "a repeated message changes nothing"

    @invariant()
    def laws_hold(self) -> None:
        for stock in self.ledger.stocks.values():
            assert 0 <= stock.reserved <= stock.on_hand
            assert stock.available + stock.reserved + stock.shipped == stock.received + stock.adjusted
            held = sum(r.lines.get(stock.sku, 0) for r in self.reservations.values() if r.state == "held")
            assert stock.reserved == held

    @invariant()
    def ledger_tells_the_same(self) -> None:
        for stock in self.ledger.stocks.values():
            mine = [movement for movement in self.ledger.movements if movement.sku == stock.sku]
            assert [movement.version for movement in mine] == list(range(1, stock.version + 1))
            booked = {
                kind: sum(m.quantity for m in mine if m.kind == kind)
                for kind in ("receive", "adjust", "count", "return", "reserve", "release", "ship")
            }
            assert stock.received == booked["receive"]
            assert stock.adjusted == booked["adjust"] + booked["count"]
            assert stock.shipped == booked["ship"] - booked["return"]
            assert stock.reserved == booked["reserve"] - booked["release"] - booked["ship"]
            if mine:
                assert (mine[-1].on_hand, mine[-1].reserved) == (stock.on_hand, stock.reserved)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
