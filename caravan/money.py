"""Money as integer minor units of one currency; no float ever touches an amount."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_AMOUNT = 10**15
"""The largest amount in minor units that any column or sum holds."""


class Money(BaseModel):
    """`{"amount": 1999, "currency": "GBP"}` is 19.99 pounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    amount: Annotated[int, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT, description="minor units, pence for GBP", examples=[1999])]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217", examples=["GBP"])]

    def __str__(self) -> str:
        sign = "-" if self.amount < 0 else ""
        return f"{sign}{abs(self.amount) // 100}.{abs(self.amount) % 100:02d} {self.currency}"
