"""Settings of recommendations."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RECOMMENDATIONS_", extra="ignore", frozen=True)

    pair_minimum: int = Field(
        2, ge=1, le=1000, description="Two products must be in so many orders together before one recommends the other."
    )
    recent_days: int = Field(
        90, ge=0, le=3650, description="What a user ordered in so many days is not recommended as something new."
    )
    repeat_after_days: Annotated[int, FormerName("again_days")] = Field(
        14,
        ge=0,
        le=3650,
        description="What a user ordered in so many days is not recommended again either, habit or not.",
    )
    cache_seconds: int = Field(60, ge=1, le=3600, description="How long a list is kept in Redis at most.")
