"""The knobs of order processing."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PROCESSING_", extra="ignore", frozen=True)

    answer_seconds: float = Field(
        30.0, gt=0, description="How long a step may take before its command is sent again; doubles with each reminder."
    )
    give_up_seconds: float = Field(
        600.0,
        gt=0,
        description=(
            "After this long without stock an order is cancelled. Money is never given up on: its outcome is asked "
            "for until it is known."
        ),
    )
