"""Settings of reconciliation."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RECONCILIATION_", extra="ignore", frozen=True)

    run_seconds: float = Field(
        30.0, ge=1, le=86400, description="From the end of one comparison of what has changed to the next."
    )
    full_hours: float = Field(
        24.0, ge=0.01, le=8760, description="From one comparison of everything to the next, old orders included."
    )
    settle_seconds: float = Field(
        60.0, ge=0, le=86400, description="What is younger is not compared: its messages may be on their way."
    )
    outbox_seconds: float = Field(
        300.0, ge=1, le=86400, description="A message that was not published for so long is a gap."
    )
    stuck_seconds: float = Field(
        86400.0,
        ge=1,
        le=366 * 86400,
        description="An order that is not shipped and in which nothing has moved for so long is a gap.",
    )
    repair_seconds: float = Field(
        600.0, ge=1, le=86400, description="A gap that is still there so long after its repair is open again."
    )
    four_eyes_amount: int = Field(
        10_000,
        ge=0,
        le=10**12,
        description="A repair of more (minor units) must be approved by another admin; 0: every one that moves money.",
    )
    repairs_per_run: int = Field(
        20, ge=1, le=1000, description="Most cases that `caravan reconcile --repair` repairs at a time."
    )
    repair_amount_per_run: int = Field(
        100_000, ge=0, le=10**12, description="Most money that it moves at a time, in minor units of each currency."
    )
