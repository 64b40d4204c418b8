"""The HTTP shapes of orders."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from caravan import text
from caravan.countries import Country
from caravan.money import Money
from caravan.postcodes import read_postcode
from services.orders.messages import Address, CancellationState

MAX_LINES = 1000
MAX_QUANTITY = 1_000_000

Text = Annotated[str, text.TextLine(200)]
Sku = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LineRequest(Body):
    sku: Sku = Field(examples=["MUG"])
    quantity: int = Field(ge=1, le=MAX_QUANTITY, examples=[2])


class ShippingAddress(Body):
    name: Text = Field(examples=["Ada Lovelace"])
    street: Text = Field(examples=["12 St James's Square"])
    city: Text = Field(examples=["London"])
    postcode: Annotated[str, text.TextLine(20)] | None = Field(
        None,
        description=(
            "by the rule of the country; left out where there is none. `0`, not known, is for those who enter orders "
            "in others' names."
        ),
        examples=["SW1Y 4JH"],
    )
    country: Country = Field(examples=["GB"])

    @model_validator(mode="after")
    def fits_its_country(self) -> "ShippingAddress":
        try:
            read_postcode(self.postcode, self.country)
        except ValueError as error:
            raise text.BrokenRule("postcode", str(error)) from None
        return self

    def as_written(self) -> Address:
        """As parcels and invoices show it."""
        return Address(**{**self.model_dump(), "postcode": read_postcode(self.postcode, self.country)})


class PaymentRequest(Body):
    method: Literal["card"] = "card"
    token: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")] = Field(
        examples=["tok_ok"]
    )


class OrderRequest(Body):
    """Prices are not part of it: they are the catalogue's, and frozen on the order."""

    lines: list[LineRequest] = Field(min_length=1, max_length=MAX_LINES)
    shipping_address: ShippingAddress
    payment: PaymentRequest

    @model_validator(mode="after")
    def check_skus_unique(self) -> "OrderRequest":
        skus = [line.sku for line in self.lines]
        if len(set(skus)) != len(skus):
            index = next(index for index, sku in enumerate(skus) if sku in skus[:index])
            raise text.BrokenRule(f"lines.{index}.sku", f"{skus[index]} stands twice; add up its quantity")
        return self


class CancelRequest(Body):
    reason: Text = Field("cancelled by the customer", examples=["changed my mind"])


class LineItem(BaseModel):
    sku: str
    name: str
    quantity: int
    unit_price: Money
    amount: Money


class Cancellation(BaseModel):
    """`requested`: it is under way; `refused`: it came too late, and `reason` says why."""

    state: CancellationState
    reason: str


class OrderDocument(BaseModel):
    """An order as it was at `version`."""

    id: UUID
    status: str = Field(examples=["paid"])
    version: int
    user_id: UUID
    lines: list[LineItem]
    total: Money
    shipping_address: dict[str, str]
    cancelling: bool
    cancellation: Cancellation | None
    reason: str | None
    invoice_number: str | None
    tracking_number: str | None
    refunded: Money | None
    placed_at: datetime
    updated_at: datetime


class AcceptedOrder(BaseModel):
    """The order is stored; what becomes of it is seen at `Location`."""

    id: UUID
    status: str = "created"
    version: int
    total: Money
    placed_at: datetime


class OrderItem(BaseModel):
    """An order in a list."""

    id: UUID
    status: str
    version: int
    user_id: UUID
    total: Money
    placed_at: datetime
    updated_at: datetime


class HistoryEntry(BaseModel):
    version: int
    type: str = Field(examples=["PaymentCompleted"])
    status: str
    time: datetime
    actor: str | None
    trace_id: str | None
    data: dict[str, Any]


class OrderHistory(BaseModel):
    items: list[HistoryEntry]
