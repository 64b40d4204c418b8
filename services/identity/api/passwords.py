"""Password resets by a mailed link."""

from fastapi import APIRouter
from fastapi.responses import Response

from caravan.http import Injected, make_json_response
from services.identity import schemas
from services.identity.use_cases import passwords
from services.identity.use_cases.keys import IdentityContext

router = APIRouter(tags=["auth"])


@router.post("/v1/auth/password-reset", status_code=202, response_model=schemas.ResetReceipt)
async def request_password_reset(context: Injected[IdentityContext], body: schemas.ResetRequest) -> Response:
    """Ask for a mail with a link that sets a new password. The answer is the same whether the address has an account or
    not.
    """
    await passwords.request_reset(context, body.email)
    return make_json_response(
        schemas.ResetReceipt(detail="if the address has an account, a mail with a link is on its way"), 202
    )


@router.post("/v1/auth/password-reset/confirm", status_code=204)
async def confirm_password_reset(
    context: Injected[IdentityContext], confirmation: schemas.ResetConfirmation
) -> Response:
    """Set a new password by the link's token, once. All sessions and links of the user end. An expired, used or ended
    link: 400.
    """
    await passwords.confirm_reset(context, confirmation)
    return Response(status_code=204)
