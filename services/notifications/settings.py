"""The knobs of notifications."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SCHEMES = ("smtp", "smtp+starttls", "smtps")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_", extra="ignore", frozen=True)

    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: `smtp://user:password@host:587` (TLS when the server offers it), `smtp+starttls://` (TLS required) or `smtps://` (TLS from"
        " the start). Default: mails land as `.eml` files in the data folder.",
    )
    smtp_connections: int = Field(4, ge=1, le=50, description="Connections to the mail server at a time, for each of the two senders.")
    sender: str = Field(
        "Caravan <no-reply@caravan.local>", pattern=r"^[ -~]*<[^\s@<>]+@[^\s@<>]+>$", description="From whom mails come: `Name <address>`."
    )
    keep_days: int = Field(400, ge=30, le=3650, description="How long finished notifications are kept.")

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme not in SCHEMES or not parts.hostname or not (parts.port is None or parts.port):
                raise ValueError("expected smtp://, smtp+starttls:// or smtps:// with a host")
        return url
