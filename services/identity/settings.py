"""Settings of identity."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.environment import FormerName, check_url
from services.identity.messages import UserRole

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def check_secure_url(url: str) -> None:
    """ValueError for what is not https; http is for this machine alone, where nobody listens on the way."""
    check_url(url, ("https", "http"))
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https://; http:// is only for an issuer on this machine")
    if parts.username is not None or parts.fragment:
        raise ValueError("must have no user, password or fragment")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    oidc_issuer: str = Field(
        "",
        description=(
            "An OpenID Connect issuer outside the shop whose users may sign in, such as `https://login.example.com`, "
            "as its tokens name it. Default: none. See docs/how-to/sign-in.md."
        ),
    )
    oidc_audience: str = Field(
        "",
        max_length=255,
        description="Access tokens of that issuer for this audience (`aud`) are accepted. Default: none are.",
    )
    oidc_client_id: str = Field(
        "",
        max_length=255,
        description="The shop's client id at that issuer, to sign in with a browser. Default: only tokens are taken.",
    )
    oidc_client_secret: SecretStr | None = Field(None, description="The secret of that client.")
    oidc_scopes: str = Field(
        "openid email profile",
        max_length=1000,
        pattern=r"^([!#-\[\]-~]+ )*openid( [!#-\[\]-~]+)*$",
        description="What is asked for at a sign-in with a browser, `openid` among it.",
    )
    oidc_label: str = Field(
        "your company account", min_length=1, max_length=60, description="What the sign-in button calls the issuer."
    )
    oidc_session_hours: float = Field(
        10.0,
        gt=0,
        le=720,
        description=(
            "Life of a session that began at the issuer: after this the user signs in there again, with the groups "
            "and standing of then."
        ),
    )
    oidc_algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "ES256"),
        min_length=1,
        description='Algorithms with which the issuer signs, as JSON (`["RS256"]`); tokens with others are refused.',
    )
    oidc_groups_claim: str = Field(
        "groups",
        min_length=1,
        max_length=255,
        description="The claim with the user's groups: a list of names, or one name.",
    )
    oidc_roles: dict[str, UserRole] = Field(
        {},
        description=(
            'The role in this shop by group, as JSON (`{"shop-admins": "admin", "shop-staff": "staff"}`); of several '
            "the highest. At each sign-in the user gets it. Default: the issuer's users begin with "
            "`IDENTITY_OIDC_DEFAULT_ROLE`, and the shop's admins change it."
        ),
    )
    oidc_default_role: Literal["customer", "staff", "none"] = Field(
        "customer", description="The role of the issuer's users who are in none of these groups; `none` refuses them."
    )
    oidc_link_by_email: bool = Field(
        False,
        description=(
            "Whether a user of the issuer becomes the one who has the same e-mail address here, when the issuer says "
            "that it is verified. Otherwise such a sign-in is refused."
        ),
    )

    @field_validator("oidc_issuer")
    @classmethod
    def _check_issuer(cls, url: str) -> str:
        if url:
            check_secure_url(url)
            if urlsplit(url).query:
                raise ValueError("must have no query")
        return url

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        """Half a configuration would refuse everybody, or accept more than was meant."""
        given = {name for name in self.model_fields_set if name.startswith("oidc_") and getattr(self, name)}
        if given and not self.oidc_issuer:
            raise ValueError(
                f"IDENTITY_{min(given).upper()} is set and IDENTITY_OIDC_ISSUER is not; set both or neither"
            )
        if self.oidc_default_role == "none" and not self.oidc_roles:
            raise ValueError(
                "IDENTITY_OIDC_DEFAULT_ROLE is none and IDENTITY_OIDC_ROLES is not set: nobody could sign in"
            )
        secret = self.oidc_client_secret.get_secret_value() if self.oidc_client_secret else ""
        if bool(self.oidc_client_id) != bool(secret):
            raise ValueError("IDENTITY_OIDC_CLIENT_ID and IDENTITY_OIDC_CLIENT_SECRET: set both or neither")
        if self.oidc_issuer and not (self.oidc_audience or self.oidc_client_id):
            raise ValueError("IDENTITY_OIDC_ISSUER is set: set IDENTITY_OIDC_AUDIENCE or IDENTITY_OIDC_CLIENT_ID, too")
        return self

    @field_validator("gateways")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        parse_networks(text)
        return text

    @cached_property
    def gateway_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return parse_networks(self.gateways)
