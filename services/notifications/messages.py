"""The command that notifications takes, on two queues: a critical message never waits behind standard ones.

Kinds that may be asked for, with their values (those in brackets may be absent; `Money` is `{"amount", "currency"}`):

| kind | values |
|---|---|
| `welcome` | `name` |
| `verify_email` | `link`, (`at`), (`days`: how long the link is good) |
| `password_changed` | (`name`), (`at`: when, RFC 3339) |
| `password_reset` | `link`, (`name`), (`at`), (`minutes`: how long the link is good) |
| `session_reuse` | (`name`), (`at`) |
| `price_drop` | `sku`, (`name`), (`price`: Money), (`previous_price`: Money) |
| `back_in_stock` | `sku`, (`name`), (`price`: Money), (`previous_price`: Money) |
| `product_updated` | `sku`, (`name`), (`price`: Money), (`previous_price`: Money) |

| `daily_report` | `day`, `orders`, `states`, `sales` (a row per currency), `history` (by currency: `day`, `revenue`) |

All other messages come from events, see `EMAILS_BY_OUTCOME`. A command of another kind, or without a value it needs,
becomes a dead letter.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from caravan.messages import Command, Queue

ChannelName = Literal["email", "sms", "log"]


NotificationState = Literal["pending", "sent", "failed", "suppressed"]


class SendNotification(Command):
    """One message to one person. `about` and `kind` together make it single: the same pair is sent once, however often
    the command comes.
    """

    about: str
    """What it is about, such as an order id or `password:<user id>:<event id>`."""
    kind: str
    """Name of the template."""
    user_id: UUID | None
    email: str
    values: dict[str, Any] = {}


CRITICAL_NOTIFICATIONS = Queue(
    "notifications.critical",
    owner="notifications",
    commands=(SendNotification,),
    key="about",
    purpose="Security messages: sent before all others.",
)
STANDARD_NOTIFICATIONS = Queue(
    "notifications.standard",
    owner="notifications",
    commands=(SendNotification,),
    key="about",
    purpose="Everything that may wait a little.",
)
CHANNELS = (CRITICAL_NOTIFICATIONS, STANDARD_NOTIFICATIONS)

CANCELLATION_REFUSED = "cancellation_refused"
"""The e-mail that a cancellation came too late: with any outcome, besides those of the outcome."""
EMAILS_BY_OUTCOME: Mapping[str, tuple[str, ...]] = {
    "completed": ("order_confirmed",),
    "shipped": ("order_shipped",),
    "rejected": ("order_rejected",),
    "payment_failed": ("payment_failed",),
    "cancelled": ("order_cancelled",),
}
"""The e-mails of an order, by what happened to it: its outcome on `order-processed`, its shipment, its cancellation.
They add up: a completed and shipped order gets two, a completed and then cancelled one gets two. Besides, each order
has one `order_received` on the channel `log`. Users who chose another channel or opted out get theirs accordingly.
"""
