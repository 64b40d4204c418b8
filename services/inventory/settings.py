"""Settings of inventory."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="INVENTORY_", extra="ignore", frozen=True)

    reservation_seconds: float = Field(
        900.0,
        gt=0,
        le=7 * 86400,
        description="How long stock is held for an order that is not paid."
        " After payment it is held until it is shipped.",
    )
    stream_seconds: float = Field(
        300.0,
        gt=0,
        le=3600,
        description="Longest that one live stream of a sku lasts; clients connect again by themselves.",
    )
    max_streams: Annotated[int, FormerName("streams")] = Field(
        500, ge=1, le=100_000, description="Most live streams at a time in one process; the next one is answered 503."
    )
