"""The HTTP shapes of notifications."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from caravan.email_address import EmailAddress
from caravan.text import TextLine, TextParagraphs
from caravan.times import Time
from services.notifications.messages import ChannelName, NotificationState

CampaignStatus = Literal["scheduled", "running", "stopped", "done"]
OptOut = Literal["transactional", "alerts", "promotions"]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
TIME_ZONES = frozenset(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")) | {"UTC"}


def _check_time_zone(name: str) -> str:
    if name not in TIME_ZONES:
        raise ValueError("must be an IANA name of a time zone, such as Europe/London")
    return name


TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_time_zone)]
TimeZoneOrNone = Annotated[
    str, StringConstraints(max_length=64), AfterValidator(lambda name: name and _check_time_zone(name))
]
"""As a form of a page has it: empty for none."""


class PreferenceView(BaseModel):
    """How you want to be reached. Security messages always come by e-mail."""

    channel: ChannelName
    phone: str | None = Field(description="E.164", examples=["+442079460000"])
    opt_out: list[OptOut] = Field(
        description="categories that you don't want; what was opted out of is listed as `suppressed`, not sent"
    )
    time_zone: str | None = Field(description="where you live: promotional mails come at a fitting time of your day")


class PreferenceChange(BaseModel):
    """The fields that are given change; the others stay."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    channel: ChannelName = Field(
        "email",
        description="`sms` needs a phone number; `log` sends nothing: messages are listed at `/v1/notifications` only",
    )
    phone: Phone | None = Field(None, description="E.164; null removes it", examples=["+442079460000"])
    opt_out: list[OptOut] = Field([], max_length=3)
    time_zone: TimeZone | None = Field(None, description="IANA name; null: the shop's", examples=["Europe/London"])


class NotificationView(BaseModel):
    id: UUID
    about: str = Field(description="what it is about, such as an order id")
    kind: str = Field(examples=["order_confirmed"])
    channel: ChannelName
    state: NotificationState
    recipient: str
    subject: str | None = Field(description="null until it was tried for the first time")
    created_at: datetime
    sent_at: datetime | None
    attempts: int
    reason: str | None = Field(description="why it failed, or why it still waits; for staff")


class BounceEvent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["bounce", "complaint"] = Field(description="it came back; or its reader called it unwanted")
    recipient: EmailAddress
    message_id: Annotated[str, TextLine(998)] | None = Field(
        None, description="the Message-ID of the mail that came back: it is failed then, and staff can send it again"
    )
    is_permanent: bool = Field(
        False,
        description="of a bounce: the address takes no mail (5.x.x), and gets no alerts and promotions from now on",
    )
    reason: Annotated[str, TextLine(500)] = Field(examples=["550 5.1.1 no such user"])


class BounceReport(BaseModel):
    """What became of mails after the provider had taken them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    events: list[BounceEvent] = Field(min_length=1, max_length=100)


class BounceReceipt(BaseModel):
    undeliverable: int = Field(description="addresses of the report that get no alerts and promotions from now on")
    failed: int = Field(description="notifications that counted as sent, and are failed now")


class DeliveryReceipt(BounceReceipt):
    ignored: int = Field(description="recipients of whom the report names no message that was sent to them")


class UndeliverableAddressView(BaseModel):
    address: str
    cause: Literal["bounce", "complaint"]
    reason: str
    noted_at: datetime


Days = Annotated[int, Field(ge=1, le=3650)]
Title = Annotated[str, TextLine(150)]


class Segment(BaseModel):
    """Which customers: all of what is given must hold; nothing given is everybody."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    registered_after: Time | None = None
    registered_before: Time | None = None
    ordered_within_days: Days | None = Field(None, description="placed an order in the last so many days")
    not_ordered_within_days: Days | None = Field(None, description="placed none in the last so many days")


class CampaignRequest(BaseModel):
    """A promotional mail: now, at `send_at`, or again and again by `cron`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Title = Field(description="for you; it is not sent")
    subject: Title
    text: Annotated[str, TextParagraphs(20_000)] = Field(description="plain text; an empty line begins a paragraph")
    segment: Segment = Segment()
    send_at: Time | None = Field(None, description="null: now; a time that has passed is refused")
    cron: str | None = Field(
        None,
        max_length=100,
        description="minute hour day month weekday; at most once an hour",
        examples=["30 9 * * mon"],
    )
    time_zone: str = Field(
        "UTC",
        max_length=64,
        description="IANA name; the zone of `cron`, and of recipients who named none",
        examples=["Europe/London"],
    )
    local_time: bool = Field(
        False,
        description="at the time of day of `send_at` or `cron` where each recipient lives; it starts at UTC+14",
    )
    with_recommendations: bool = Field(
        False,
        description="with what is recommended to each recipient at that moment; without any there is no mail",
    )


class RunView(BaseModel):
    due_at: datetime
    status: Literal["writing", "sending", "stopped", "done", "missed"] = Field(
        description="`missed`: could not start within an hour; resuming a campaign without cron sends it"
    )
    recipients: int = Field(description="customers of the segment when it started")
    written: int = Field(description="messages made so far")
    pending: int
    sent: int
    failed: int
    suppressed: int = Field(description="opted out")
    started_at: datetime


class CampaignView(BaseModel):
    id: UUID
    name: str
    subject: str
    text: str
    segment: Segment
    cron: str | None
    time_zone: str
    local_time: bool
    with_recommendations: bool
    status: CampaignStatus
    next_run_at: datetime | None
    created_by: str
    created_at: datetime
    runs: list[RunView] = Field(description="the newest first, at most 20")
