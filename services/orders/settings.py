"""The knobs of orders."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ORDERS_", extra="ignore", frozen=True)

    standing_seconds: float = Field(
        5.0,
        ge=0,
        le=60,
        description="How long a customer's standing is remembered: a disabled one may still order for that long.",
    )
    read_seconds: float = Field(
        1.5,
        gt=0,
        le=10,
        description="Longest that a read waits for the read side to reach `min_version`,"
        " or for an order placed just now.",
    )
    at_once: int = Field(
        10, ge=1, le=1000, description="Orders that one process places at the same moment; more wait for their turn."
    )
