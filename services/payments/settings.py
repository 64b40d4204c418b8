"""Settings of payments."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName
from caravan.money import Currency


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", extra="ignore", frozen=True)

    retry_seconds: tuple[Annotated[float, Field(ge=0, le=86_400)], ...] = Field(
        (1.0, 3.0, 10.0, 30.0),
        description=(
            "Delays before attempt 2, 3, ... after a soft failure, as JSON (`[1, 3, 10, 30]`); when they are used up "
            "the payment has failed."
        ),
    )
    requery_seconds: Annotated[float, FormerName("ask_again_seconds")] = Field(
        0.5,
        gt=0,
        description=(
            "After a call without an answer its result is queried, with the same key, after this long; doubles "
            "each time."
        ),
    )
    call_timeout_seconds: Annotated[float, FormerName("call_seconds")] = Field(
        2.0, gt=0, le=60, description="Longest wait for one answer of the provider."
    )
    calls_in_flight: int = Field(
        64, ge=1, le=1000, description="Most calls to the provider at once, per process and batch."
    )
    provider_latency_seconds: float = Field(
        0.0, ge=0, le=60, description="How long the simulated provider takes to answer."
    )
    hold_seconds: float = Field(
        600.0,
        gt=0,
        description=(
            "How long no attempt to charge begins for an order that is being cancelled; ends by itself when the "
            "cancellation never comes."
        ),
    )
    currency: Currency = Field(
        "GBP", description="Currency in which a refund of nothing is reported for an unknown order."
    )
