"""Settings of shipping."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHIPPING_", extra="ignore", frozen=True)

    pickup_seconds: float = Field(
        1.0,
        ge=0,
        le=30 * 86400,
        description="How long parcels wait for the carrier: until then a shipment can be stopped.",
    )
    delivery_seconds: float = Field(
        2.0, ge=0, le=30 * 86400, description="How long the simulated carrier takes to deliver."
    )
    call_timeout_seconds: Annotated[float, FormerName("call_seconds")] = Field(
        2.0, gt=0, le=60, description="Longest wait for one answer of the carrier."
    )
    calls_in_flight: int = Field(64, ge=1, le=1000, description="Most calls to the carrier at once, per process.")
