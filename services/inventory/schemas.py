"""The HTTP shapes of inventory."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from caravan.text import BrokenRule, TextLine
from services.inventory.messages import MovementKind

MAX_UNITS = 1_000_000_000
MAX_LINES = 500

Sku = Annotated[
    str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._ -]*[A-Za-z0-9._-])?$")
]
Reason = Annotated[str, TextLine(200, min_length=0)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._:/-]+$")]
ManualMovementKind = Literal["receive", "adjust", "count", "return"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MovementRequest(Body):
    """`receive` and `return`: so many came in, at least 1. `adjust`: so many more, or less when negative. `count`: so
    many were found, which replaces `on_hand`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {"kind": {"enum": ["receive", "return"]}, "quantity": {"minimum": 1}}},
                {"properties": {"kind": {"const": "count"}, "quantity": {"minimum": 0}}},
                {"properties": {"kind": {"const": "adjust"}, "quantity": {"not": {"const": 0}}}},
            ]
        }
    )

    kind: ManualMovementKind
    quantity: int = Field(ge=-MAX_UNITS, le=MAX_UNITS, examples=[12])
    reason: Reason = Field("", examples=["delivery 4711"])

    @model_validator(mode="after")
    def check_quantity(self) -> "MovementRequest":
        lowest = {"receive": 1, "return": 1, "count": 0, "adjust": -MAX_UNITS}[self.kind]
        if self.quantity < lowest or (self.kind == "adjust" and self.quantity == 0):
            raise BrokenRule(
                "quantity", f"{self.kind} takes {'any but 0' if self.kind == 'adjust' else f'{lowest} or more'}"
            )
        return self


class MovementLine(MovementRequest):
    """A movement with a `reference` happens once, however often and with whatever else it is sent: one that is known is
    left out.
    """

    sku: Sku = Field(examples=["MUG"])
    reference: Reference | None = Field(None, examples=["delivery-4711-line-3"])


class MovementsRequest(Body):
    """All of them are done, in this order, or none."""

    movements: list[MovementLine] = Field(min_length=1, max_length=MAX_LINES)

    @model_validator(mode="after")
    def check_references_unique(self) -> "MovementsRequest":
        references: set[str] = set()
        for index, line in enumerate(self.movements):
            if line.reference in references:
                raise BrokenRule(f"movements.{index}.reference", f"{line.reference} stands twice")
            references |= {line.reference} if line.reference else set()
        return self


class MovementsSummary(BaseModel):
    """`repeated`: the references that were known before; it is not there when there are none."""

    movements: int
    skus: int
    repeated: list[str] = []


class StockDocument(BaseModel):
    """`on_hand` is physically here, the reserved units among it; `available` is what can be sold."""

    sku: str
    on_hand: int
    reserved: int
    available: int


class BalanceDocument(StockDocument):
    """With the whole account: `available + reserved + shipped = received + adjusted`. `version` is the number of
    movements.
    """

    shipped: int
    received: int
    adjusted: int
    version: int


class MovementDocument(BaseModel):
    """A line of the ledger; `on_hand` and `reserved` are as it left them."""

    sku: str
    version: int
    kind: MovementKind
    quantity: int
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    time: datetime
