"""Settings of orders."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ORDERS_", extra="ignore", frozen=True)

    customer_status_seconds: Annotated[float, FormerName("standing_seconds")] = Field(
        5.0,
        ge=0,
        le=60,
        description="How long a customer's status is remembered: a disabled one may still order for that long.",
    )
    read_seconds: float = Field(
        1.5,
        gt=0,
        le=10,
        description="Longest that a read waits for the read side to reach `min_version`,"
        " or for an order placed just now.",
    )
    placement_concurrency: Annotated[int, FormerName("at_once")] = Field(
        10, ge=1, le=1000, description="Orders that one process places at the same moment; more wait for their turn."
    )
