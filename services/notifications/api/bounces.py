"""What mail providers report of mails that they had taken, and the addresses that take none."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response

from caravan.audit import record_audit
from caravan.auth import Staff
from caravan.email_address import EmailAddress
from caravan.errors import BadRequest, NotFound
from caravan.http import (
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    make_json_response,
    make_page_response,
)
from caravan.schemas import Page
from services.notifications.schemas import BounceReceipt, BounceReport, DeliveryReceipt, UndeliverableAddressView
from services.notifications.signatures import is_signed_report
from services.notifications.store import addresses
from services.notifications.use_cases import NotificationsContext, bounces

router = APIRouter(tags=["notifications"])
_MAIL = {"required": True, "content": {"message/rfc822": {"schema": {"type": "string", "format": "binary"}}}}


async def check_signature(
    context: Injected[NotificationsContext],
    request: Request,
    bounce_signature: Annotated[
        str, Header(max_length=200, description="`t=<unix seconds>,v1=<hex HMAC-SHA256 of `<t>.<body>`>`")
    ] = "",
) -> None:
    """Raises BadRequest for a report that the holder of NOTIFICATIONS_BOUNCE_SECRET did not sign just now."""
    secret = context.settings.bounce_secret
    if secret is None:
        raise BadRequest("no report is taken: set NOTIFICATIONS_BOUNCE_SECRET, and let the mail provider sign with it")
    if not is_signed_report(secret.get_secret_value(), bounce_signature, await request.body(), context.clock()):
        raise BadRequest(
            "Bounce-Signature must be t=<unix seconds, now>,v1=<hex HMAC-SHA256 of `<t>.<body>` with "
            "NOTIFICATIONS_BOUNCE_SECRET>"
        )


@router.post("/v1/notifications/bounces", response_model=BounceReceipt, dependencies=[Depends(check_signature)])
async def post_bounces(context: Injected[NotificationsContext], report: BounceReport) -> Response:
    """For mail providers: mails that came back, and complaints. An address that takes no mail gets no alerts and
    promotions any more; a mail that came back is failed, and staff can send it again.
    """
    return make_json_response(await bounces.record_bounces(context, report))


@router.post(
    "/v1/notifications/delivery-reports",
    response_model=DeliveryReceipt,
    dependencies=[Depends(check_signature)],
    openapi_extra={"requestBody": _MAIL},
)
async def post_delivery_report(context: Injected[NotificationsContext], request: Request) -> Response:
    """For mail servers: a delivery status notification (RFC 3464) as it came to the address of `NOTIFICATIONS_SENDER`.
    It counts for recipients of whom it names a message that was sent to them; 422 for any other mail.
    """
    return make_json_response(await bounces.record_delivery_report(context, await request.body()))


@router.get("/v1/notifications/undeliverable-addresses", response_model=Page[UndeliverableAddressView])
async def list_undeliverable_addresses(
    context: Injected[NotificationsContext], caller: Staff, limit: Limit = 20, cursor: CursorParameter = None
) -> Response:
    """Addresses that get no alerts and promotions, because mail came back or a reader complained."""
    after = decode_cursor(cursor, str)
    rows = await addresses.list_undeliverable(context.database, after[0] if after else None, limit + 1)
    return make_page_response(
        rows, limit, lambda row: UndeliverableAddressView.model_validate(row._asdict()), lambda row: (row.address,)
    )


@router.delete("/v1/notifications/undeliverable-addresses/{address}", status_code=204)
async def delete_undeliverable_address(
    context: Injected[NotificationsContext],
    address: Annotated[EmailAddress, Path(description="as the list has it")],
    caller: Staff,
) -> Response:
    """Send alerts and promotions to it again."""
    async with context.database.unit_of_work() as uow:
        if not await addresses.forget_undeliverable(uow, address):
            raise NotFound("no such address is noted; GET /v1/notifications/undeliverable-addresses lists them")
        record_audit(uow, "address.cleared", f"address:{address}")
    return Response(status_code=204)
