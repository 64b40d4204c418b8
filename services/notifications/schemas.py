"""The HTTP shapes of notifications."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ChannelName = Literal["email", "sms", "log"]
StateName = Literal["pending", "sent", "failed", "suppressed"]
OptOut = Literal["transactional", "alerts"]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]


class PreferenceView(BaseModel):
    """How you want to be reached. Security messages always come by e-mail."""

    channel: ChannelName
    phone: str | None = Field(description="E.164", examples=["+442079460000"])
    opt_out: list[OptOut] = Field(description="categories that you don't want; what was opted out of is listed as `suppressed`, not sent")


class PreferenceChange(BaseModel):
    """The fields that are given change; the others stay."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    channel: ChannelName = Field(
        "email", description="`sms` needs a phone number; `log` sends nothing: messages are listed at `/v1/notifications` only"
    )
    phone: Phone | None = Field(None, description="E.164; null removes it", examples=["+442079460000"])
    opt_out: list[OptOut] = Field([], max_length=2)


class NotificationView(BaseModel):
    id: UUID
    about: str = Field(description="what it is about, such as an order id")
    kind: str = Field(examples=["order_confirmed"])
    channel: ChannelName
    state: StateName
    recipient: str
    subject: str | None = Field(description="null until it was tried for the first time")
    created_at: datetime
    sent_at: datetime | None
    attempts: int
    reason: str | None = Field(description="why it failed, or why it still waits; for staff")
