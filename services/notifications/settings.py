"""Settings of notifications."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from caravan.email_address import parse_email_address
from caravan.environment import FormerName, check_url

SCHEMES = ("smtp", "smtp+starttls", "smtps")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_", extra="ignore", frozen=True)

    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: `smtp://user:password@host:587` (TLS when the server offers it),"
        " `smtp+starttls://` (TLS required) or `smtps://` (TLS from the start)."
        " Default: mails land as `.eml` files in the data folder.",
    )
    smtp_connections: int = Field(
        4, ge=1, le=50, description="Connections to the mail server at a time, for each of the two senders."
    )
    sms_url: SecretStr | None = Field(
        None,
        description="Where short messages are posted, in the shape of Twilio's API, with user and password:"
        " `https://AC…:token@api.twilio.com/2010-04-01/Accounts/AC…/Messages.json`."
        " Default: they land in `sms.jsonl` in the data folder.",
    )
    sms_sender: str | None = Field(
        None,
        pattern=r"^(\+[1-9][0-9]{6,14}|MG[0-9A-Za-z]{32}|[0-9A-Za-z ]{1,11})$",
        description="From whom short messages come: a number, a name of up to 11 letters, or the id of a messaging"
        " service. Needed with `NOTIFICATIONS_SMS_URL`.",
    )
    sms_connections: int = Field(
        4, ge=1, le=50, description="Requests to the SMS gateway at a time, for each of the two senders."
    )
    sender: str = Field(
        "Caravan <no-reply@caravan.local>",
        pattern=r"^[ -~]*<[^\s@<>]+@[^\s@<>]+>$",
        description="From whom mails come: `Name <address>`.",
    )
    retention_days: Annotated[int, FormerName("keep_days")] = Field(
        400, ge=30, le=3650, description="How long finished notifications are kept."
    )

    bounce_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="With it a mail provider signs what it reports to `POST /v1/notifications/bounces`."
        " Without it no report is taken.",
    )
    quiet_hours: str | None = Field(
        None,
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        description="No campaign is sent in these hours where its recipient lives: `21:00-08:00`.",
    )
    campaign_mails_per_second: float = Field(
        100,
        gt=0,
        le=10_000,
        description="Most messages of campaigns a second, by all replicas together. Others are not held back.",
    )
    unverified_mails_per_day: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Most messages within 24 hours to somebody whose address isn't verified,"
        " of those that cost nothing to cause: failed and cancelled orders, changes of the password."
        " More are only noted (`suppressed`).",
    )

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_url(url.get_secret_value(), SCHEMES)
        return url

    @field_validator("sms_url")
    @classmethod
    def _check_sms_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_url(url.get_secret_value(), ("https", "http"))
        return url

    @model_validator(mode="after")
    def _check_sms_sender(self) -> Self:
        if self.sms_url is not None and self.sms_sender is None:
            raise ValueError("NOTIFICATIONS_SMS_URL needs NOTIFICATIONS_SMS_SENDER: a number or name to send from")
        return self

    @field_validator("sender")
    @classmethod
    def _check_sender(cls, sender: str) -> str:
        parse_email_address(sender.partition("<")[2].removesuffix(">"))
        return sender
