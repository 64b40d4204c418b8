"""The saga against a world that answers late, twice, out of order, and in every way it may."""

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.clock import new_id
from services.processing.model import Saga, Step


class World:
    """Inventory, payments and shipping as the saga sees them: each command is answered, repeated ones the same again;
    answers arrive in any order.
    """

    def __init__(self, draw: st.DataObject) -> None:
        self.draw = draw
        self.saga = Saga(new_id(), has_order=True)
        self.inbox: list[tuple[str, str]] = []
        self.stock = self.money = self.parcel = "none"
        self.published: list[str] = []
        self.undone = self.refused = 0

    def choose(self, *options: str) -> str:
        return self.draw.draw(st.sampled_from(options))

    def take(self, steps: list[Step]) -> None:
        for step in steps:
            self.answer(step)

    def answer(self, step: Step) -> None:
        match step:
            case "reserve_stock" | "release_stock":
                self.answer_as_inventory(step)
            case "capture_payment" | "refund_payment":
                self.answer_as_payments(step)
            case "ship_order" | "cancel_shipment":
                self.answer_as_shipping(step)
            case "publish_undone":
                self.undone += 1
            case "refuse_cancellation":
                self.refused += 1
            case _:
                self.published.append(step)

    def answer_as_inventory(self, step: Step) -> None:
        match step:
            case "reserve_stock":
                if self.stock == "none":
                    self.stock = self.choose("held", "held", "rejected")
                self.inbox.append(("stock", "held" if self.stock in ("held", "released", "shipped") else "rejected"))
            case "release_stock":
                if self.stock == "held":
                    self.stock = "released"
                self.inbox.append(("stock", "released"))

    def answer_as_payments(self, step: Step) -> None:
        match step:
            case "capture_payment":
                assert self.stock in ("held", "released"), "money is asked for only when the goods are there"
                if self.money == "none":
                    self.money = self.choose("captured", "captured", "failed")
                self.inbox.append(("money", self.money if self.money != "refunded" else "captured"))
            case "refund_payment":
                if self.money != "failed":  # then there is nothing to give back, which is an answer, too
                    self.money = "refunded"
                self.inbox.append(("money", "refunded"))

    def answer_as_shipping(self, step: Step) -> None:
        match step:
            case "ship_order":
                assert self.money == "captured", "nothing is shipped unpaid"
                if self.parcel == "none":
                    self.parcel = "booked"
            case "cancel_shipment":
                if self.parcel in ("none", "booked"):
                    self.parcel = "stopped"
                self.inbox.append(("parcel", "stopped" if self.parcel == "stopped" else "sent"))

    def pick_up(self) -> None:
        if self.parcel == "booked":
            self.parcel, self.stock = "sent", "shipped"
            self.inbox.append(("parcel", "sent"))
        elif self.parcel == "sent":
            self.parcel = "delivered"
            self.inbox.append(("parcel", "delivered"))

    def deliver_one(self) -> None:
        if not self.inbox:
            return
        place = self.draw.draw(st.integers(0, len(self.inbox) - 1))
        part, fact = self.inbox[place]
        if not self.draw.draw(st.booleans()) or len(self.inbox) > 20:
            self.inbox.pop(place)  # otherwise it will come again
        self.tell(part, fact)

    def tell(self, part: str, fact: str) -> None:
        if (part, fact) == ("stock", "released"):
            self.saga.apply_stock_release("released")
        else:
            reports = self.saga.apply_report(part, fact)  # type: ignore[arg-type]
            if reports and fact == "captured":
                self.saga.captured = 100
            if reports and fact == "refunded":
                self.saga.refunded = 100 if self.money == "refunded" else 0
        self.take(self.saga.take_next_steps())

    def settle(self) -> None:
        """Everything that is on its way arrives; what was not answered is asked again."""
        for _ in range(200):
            self.pick_up()
            if self.inbox:
                self.tell(*self.inbox.pop(0))
            elif self.saga.list_outstanding_steps() and not self.saga.is_closed:
                self.take(self.saga.list_outstanding_steps())
            elif self.parcel in ("none", "stopped", "delivered"):
                return


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_every_schedule_ends_with_goods_and_money_on_the_same_side(data: st.DataObject) -> None:
    world = World(data)
    world.take(world.saga.take_next_steps())
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["deliver", "deliver", "deliver", "pick_up", "cancel", "remind", "expire"])):
            case "deliver":
                world.deliver_one()
            case "pick_up":
                world.pick_up()
            case "cancel":
                world.saga.request_cancellation("customer")
                world.take(world.saga.take_next_steps())
            case "remind":
                world.take(world.saga.list_outstanding_steps())
            case "expire":
                if world.stock == "held":
                    world.stock = "released"
                    world.inbox.append(("stock", "released"))
    world.settle()
    saga = world.saga
    assert saga.is_closed, f"stuck: {saga}"
    assert len(world.published) == 1, f"order-processed is published once, not {world.published}"
    assert world.stock != "held", f"stock is still reserved: {saga}"
    if world.parcel == "delivered":
        assert world.money == "captured"
    else:
        assert world.money in ("none", "failed", "refunded"), f"money without goods: {saga}"
        assert (world.money == "refunded") <= (world.undone == 1)


def test_a_cancellation_that_overtakes_the_order_undoes_it_before_anything_is_asked() -> None:
    saga = Saga(new_id())
    saga.request_cancellation("changed my mind")
    assert saga.take_next_steps() == []
    saga.has_order = True
    assert saga.take_next_steps() == ["publish_cancelled", "publish_undone"]


def test_a_parcel_that_has_left_refuses_the_cancellation_and_the_order_goes_on() -> None:
    saga = Saga(new_id(), has_order=True, stock="held", money="captured", parcel="sent", is_processed=True)
    saga.request_cancellation("too late")
    assert saga.take_next_steps() == ["refuse_cancellation"]
    saga.apply_report("parcel", "delivered")
    saga.take_next_steps()
    assert saga.is_closed
