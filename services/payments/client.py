"""What payments answers to other services."""

from uuid import UUID

from pydantic import BaseModel

from caravan.client import Operation


class HoldRequest(BaseModel):
    """`briefly`: the cancellation came to nothing; another one may be on its way, so that the hold ends soon instead of
    at once.
    """

    order_id: UUID
    briefly: bool = False


class HoldResult(BaseModel):
    """No attempt to charge the order begins from now on, for some minutes: time enough for the command that ends the
    payment for good.
    """


HOLD_CAPTURE = Operation("payments", "hold_capture", HoldRequest, HoldResult, seconds=1.0)
