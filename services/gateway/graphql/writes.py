"""The writes of the services' public APIs, as mutations: a table that a test compares with the OpenAPI document.

`mutations.py` makes fields of it; the writes of operators are in `admin_writes.py`.
"""

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from services.catalog.schemas import (
    CategoryDocument,
    CategoryRequest,
    ProductPatch,
    ProductRequest,
    ProductsRequest,
    ProductsSummary,
    WatchDocument,
)
from services.gateway.graphql.policy import Scope
from services.gateway.graphql.scalars import Uuid
from services.gateway.graphql.shapes import get_type
from services.gateway.graphql.types import Order, Product
from services.identity.schemas import (
    Invitation,
    PasswordChange,
    ProfilePatch,
    Registration,
    ResetConfirmation,
    ResetReceipt,
    ResetRequest,
    Tokens,
    User,
    UserPatch,
    VerificationReceipt,
)
from services.inventory.schemas import MovementDocument, MovementRequest, MovementsRequest, MovementsSummary
from services.notifications.schemas import (
    CampaignRequest,
    CampaignView,
    NotificationView,
    PreferenceChange,
    PreferenceView,
)
from services.orders.schemas import AcceptedOrder, CancelRequest, OrderRequest


class TokenRequest(BaseModel):
    """As OAuth 2.0 has it: `password` with username and password, or `refresh_token`."""

    grant_type: str
    username: str | None = None
    password: str | None = None
    refresh_token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    subject_token: str | None = None
    subject_token_type: str | None = None
    requested_subject: str | None = None


class Revocation(BaseModel):
    """A refresh token: it, and all that came of its sign-in, end."""

    token: str


@dataclass(frozen=True, slots=True)
class Write:
    """`template`: its path, whose parameters are arguments of the field. `result`: None where the service answers
    without a body; the field is then true. `key`: whether it takes an idempotency key, and whether it has to.
    """

    service: str
    request: str
    result: Any
    scope: Scope
    description: str
    body: type[BaseModel] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    has_if_match: bool = False
    is_form: bool = False
    is_body_optional: bool = False

    @property
    def method(self) -> str:
        return self.request.partition(" ")[0]

    @property
    def template(self) -> str:
        return self.request.partition(" ")[2]


_SKU = {"sku": str}

SHOP_WRITES: dict[str, Write] = {
    "register_user": Write(
        "identity", "POST /v1/users", get_type(User), "public", "Register.", Registration, key="optional"
    ),
    "invite_user": Write(
        "identity",
        "POST /v1/users/invitations",
        get_type(User),
        "admin",
        "Make an account without a password; a mail invites its user.",
        Invitation,
        key="optional",
    ),
    "change_me": Write(
        "identity",
        "PATCH /v1/users/me",
        get_type(User),
        "user",
        "Change your profile.",
        ProfilePatch,
        has_if_match=True,
    ),
    "change_user": Write(
        "identity",
        "PATCH /v1/users/{user_id}",
        get_type(User),
        "admin",
        "Change the role of a user, or disable one.",
        UserPatch,
        {"user_id": Uuid},
        has_if_match=True,
    ),
    "mail_verification": Write(
        "identity",
        "POST /v1/users/me/verification",
        get_type(VerificationReceipt),
        "user",
        "Send the mail again that shows whose your address is.",
    ),
    "change_password": Write(
        "identity", "POST /v1/users/me/password", None, "user", "Change your password.", PasswordChange
    ),
    "issue_tokens": Write(
        "identity", "POST /v1/auth/token", get_type(Tokens), "public", "Sign in.", TokenRequest, is_form=True
    ),
    "revoke_token": Write("identity", "POST /v1/auth/revoke", None, "public", "Sign out.", Revocation),
    "request_password_reset": Write(
        "identity",
        "POST /v1/auth/password-reset",
        get_type(ResetReceipt),
        "public",
        "Get a mail with a link to set a new password.",
        ResetRequest,
    ),
    "confirm_password_reset": Write(
        "identity",
        "POST /v1/auth/password-reset/confirm",
        None,
        "public",
        "Set a new password with what the mail has.",
        ResetConfirmation,
    ),
    "create_product": Write(
        "catalog", "POST /v1/products", Product, "admin", "Add a product.", ProductRequest, key="optional"
    ),
    "put_products": Write(
        "catalog",
        "PUT /v1/products",
        get_type(ProductsSummary),
        "admin",
        "Add or change up to 500 products.",
        ProductsRequest,
    ),
    "change_product": Write(
        "catalog",
        "PATCH /v1/products/{sku}",
        Product,
        "admin",
        "Change a product.",
        ProductPatch,
        _SKU,
        key="optional",
        has_if_match=True,
    ),
    "withdraw_product": Write(
        "catalog",
        "DELETE /v1/products/{sku}",
        None,
        "admin",
        "Take a product off sale.",
        None,
        _SKU,
        has_if_match=True,
    ),
    "watch_product": Write(
        "catalog",
        "POST /v1/products/{sku}/watch",
        get_type(WatchDocument),
        "user",
        "Get a mail when it costs less or is back in stock.",
        None,
        _SKU,
        key="optional",
    ),
    "unwatch_product": Write(
        "catalog", "DELETE /v1/products/{sku}/watch", None, "user", "Get no such mail.", None, _SKU
    ),
    "put_category": Write(
        "catalog",
        "PUT /v1/categories/{name}",
        get_type(CategoryDocument),
        "admin",
        "Say which attributes the products of a category have.",
        CategoryRequest,
        {"name": str},
        has_if_match=True,
    ),
    "record_movements": Write(
        "inventory",
        "POST /v1/stock/movements",
        get_type(MovementsSummary),
        "staff",
        "Receive, adjust or count the stock of many products.",
        MovementsRequest,
        key="optional",
    ),
    "record_movement": Write(
        "inventory",
        "POST /v1/stock/{sku}/movements",
        get_type(MovementDocument),
        "staff",
        "Receive, adjust or count the stock of a product.",
        MovementRequest,
        _SKU,
        key="optional",
    ),
    "place_order": Write(
        "orders",
        "POST /v1/orders",
        get_type(AcceptedOrder),
        "user",
        "Place an order. With the same key and input it is placed once.",
        OrderRequest,
        key="required",
    ),
    "cancel_order": Write(
        "orders",
        "POST /v1/orders/{order_id}/cancel",
        Order,
        "user",
        "Undo an order that has not been shipped.",
        CancelRequest,
        {"order_id": Uuid},
        key="optional",
        is_body_optional=True,
    ),
    "change_preferences": Write(
        "notifications",
        "PATCH /v1/users/me/preferences",
        get_type(PreferenceView),
        "user",
        "Change how you want to be reached.",
        PreferenceChange,
        has_if_match=True,
    ),
    "create_campaign": Write(
        "notifications",
        "POST /v1/campaigns",
        get_type(CampaignView),
        "staff",
        "Send a promotional mail, now or by a schedule.",
        CampaignRequest,
        key="optional",
    ),
    "stop_campaign": Write(
        "notifications",
        "POST /v1/campaigns/{campaign_id}/stop",
        get_type(CampaignView),
        "staff",
        "Stop a campaign.",
        None,
        {"campaign_id": Uuid},
    ),
    "resend_notification": Write(
        "notifications",
        "POST /v1/notifications/{notification_id}/resend",
        get_type(NotificationView),
        "staff",
        "Send a message again that failed, came back or was lost.",
        None,
        {"notification_id": Uuid},
    ),
    "resume_campaign": Write(
        "notifications",
        "POST /v1/campaigns/{campaign_id}/resume",
        get_type(CampaignView),
        "staff",
        "Go on with a stopped campaign.",
        None,
        {"campaign_id": Uuid},
    ),
}
