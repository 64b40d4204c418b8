"""Settings of identity."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="IDENTITY_", extra="ignore", frozen=True)

    argon2_passes: int = Field(
        3,
        ge=1,
        le=20,
        description="Argon2id time cost. A password is hashed anew at the next login when this or the memory changes.",
    )
    argon2_memory_kib: int = Field(
        65536,
        ge=8,
        le=1048576,
        description="Argon2id memory per hash in KiB. A replica needs this much for each parallel hash.",
    )
    argon2_concurrency: Annotated[int, FormerName("argon2_parallel")] = Field(
        2, ge=1, le=16, description="Hashes that one replica computes at the same time; more wait."
    )
    access_token_seconds: Annotated[int, FormerName("access_seconds")] = Field(
        600, ge=30, le=3600, description="Life of an access token."
    )
    session_days: int = Field(
        30, ge=1, le=365, description="Life of a session: after this, refreshing ends and the user signs in again."
    )
    reset_minutes: int = Field(30, ge=5, le=1440, description="Life of the link in a password reset mail.")
    reset_mails_per_day: int = Field(
        10, ge=1, le=1000, description="Most password reset mails to one user within 24 hours."
    )
    reset_mails_per_hour: int = Field(
        3, ge=1, le=100, description="Most password reset mails to one user within an hour."
    )
    key_rotation_days: float = Field(30.0, ge=1, le=365, description="How long a signing key signs.")
    key_lead_minutes: float = Field(
        15.0,
        ge=10,
        le=1440,
        description="How long a key is published before it signs: longer than the key set is cached.",
    )
    free_attempts: Annotated[int, FormerName("free_tries")] = Field(
        10,
        ge=1,
        le=100,
        description=(
            "Wrong passwords for one account from one address, device or session within an hour before attempts are "
            "delayed."
        ),
    )
    free_attempts_per_address: Annotated[int, FormerName("free_tries_of_address")] = Field(
        50,
        ge=1,
        le=10000,
        description=(
            "Wrong passwords from one address within an hour, whatever the account, before attempts on accounts that "
            "were never used from there are delayed."
        ),
    )
    free_attempts_per_account: Annotated[int, FormerName("free_tries_of_account")] = Field(
        100,
        ge=1,
        le=10000,
        description=(
            "Wrong passwords for one account within an hour, whatever the address, before further attempts of those "
            "who tried it and were never signed in to it are delayed."
        ),
    )
    max_delay_seconds: Annotated[int, FormerName("longest_delay_seconds")] = Field(
        30, ge=1, le=900, description="The longest that an attempt waits after many that failed."
    )
    gateways: str = Field(
        "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
        description=(
            "Addresses or networks of gateways in other processes, comma-separated: from them the client's address is "
            "taken from `X-Forwarded-For`."
        ),
    )

    @field_validator("gateways")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        parse_networks(text)
        return text

    @cached_property
    def gateway_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return parse_networks(self.gateways)
