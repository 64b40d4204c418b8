"""Settings of analytics."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.email_address import EmailAddress


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ANALYTICS_", extra="ignore", frozen=True)

    daily_days: int = Field(
        7,
        ge=1,
        le=60,
        description="The daily reports of so many past days are written again when late events change them;"
        " older ones stay.",
    )
    daily_report_to: Annotated[list[EmailAddress], Field(max_length=20)] = Field(
        [],
        description="Who gets the report of each day by mail, minutes after it has ended (UTC):"
        ' `["ada@example.com"]`. By default nobody.',
    )
    open_days: int = Field(
        30, ge=1, le=366, description="The dashboard looks for open orders among those placed in so many days."
    )
