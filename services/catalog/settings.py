"""Settings of catalog."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.email_address import parse_email_address


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CATALOG_", extra="ignore", frozen=True)

    operator_email: str = Field(
        "",
        max_length=254,
        description=(
            "Who is told of each product that is made, changed or withdrawn by hand (not by a bulk import). Empty: "
            "nobody."
        ),
    )

    @field_validator("operator_email")
    @classmethod
    def _check_address(cls, address: str) -> str:
        return parse_email_address(address) if address else ""
