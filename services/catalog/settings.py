"""The knobs of catalog."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CATALOG_", extra="ignore", frozen=True)

    operator_email: str = Field(
        "",
        max_length=254,
        description="Who is told of each product that is made, changed or withdrawn by hand (not by a bulk import). Empty: nobody.",
    )
