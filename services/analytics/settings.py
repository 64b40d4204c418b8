"""Settings of analytics."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ANALYTICS_", extra="ignore", frozen=True)

    daily_days: int = Field(
        7,
        ge=1,
        le=60,
        description="The daily reports of so many past days are written again when late events change them;"
        " older ones stay.",
    )
    open_days: int = Field(
        30, ge=1, le=366, description="The dashboard looks for open orders among those placed in so many days."
    )
