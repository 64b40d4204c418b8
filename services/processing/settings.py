"""Settings of order processing."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PROCESSING_", extra="ignore", frozen=True)

    step_timeout_seconds: Annotated[float, FormerName("answer_seconds")] = Field(
        30.0, gt=0, description="How long a step may take before its command is sent again; doubles each time."
    )
    give_up_seconds: float = Field(
        600.0,
        gt=0,
        description=(
            "After this long without stock an order is cancelled. Money is never given up on: its outcome is asked "
            "for until it is known."
        ),
    )
