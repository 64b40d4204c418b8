"""The pages to which identity's mails lead, for people without a client of ours: HTML in, HTML out, no script needed.

A page only asks; what it changes comes with the form that is sent, so that a mail scanner that follows links changes nothing.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import ValidationError

from caravan.errors import BadRequest, Invalid
from caravan.http import FREE_PARAMETERS, document_pages, html_page
from services.identity import schemas
from services.identity.use_cases import passwords, verifying

RESET = passwords.RESET_PAGE
VERIFICATION = verifying.VERIFICATION_PAGE
router = APIRouter(tags=["auth"])

_PASSWORD_FORM = Markup(
    '<form method="post" action="{action}"><input type="hidden" name="token" value="{token}"><label>New password'
    '<input type="password" name="password" autocomplete="new-password" minlength="10" maxlength="128" required autofocus></label>'
    "<button>Set the password</button></form>"
)
_EMAIL_FORM = Markup(
    '<form method="post" action="{action}"><label>Your e-mail address<input type="email" name="email" autocomplete="email" maxlength="254" required>'
    "</label><button>Send me a link</button></form>"
)
_CHOOSE = "Choose a password of 10 to 128 characters; a few words that don't belong together are good. All your sessions end."
_OPEN = {FREE_PARAMETERS: ""}
"""Programs that read mail add parameters of their own to links."""
_PAGES = document_pages(s200="A page", s400="A page: the link no longer works", s422="A page: what was entered is not valid")


def _ask_for_link(title: str, *said: str, status: int = 200) -> Response:
    return html_page(title, *said, _EMAIL_FORM.format(action=RESET), status=status)


def _expired() -> Response:
    return _ask_for_link(
        "This link no longer works", "It has expired, was used, or a newer one was. You can ask for a new one.", status=400
    )


def _ask_for_password(token: str, *said: str, status: int = 200) -> Response:
    return html_page("Choose a new password", *said, _CHOOSE, _PASSWORD_FORM.format(action=RESET, token=token), status=status)


@router.get(RESET, responses=_PAGES, response_class=Response, openapi_extra=_OPEN)
async def show_reset_page(
    request: Request, token: Annotated[str, Query(max_length=200, description="from the link in the mail")] = ""
) -> Response:
    """The page of the link in a password reset mail; without a token, the form to ask for such a mail. It changes nothing."""
    if not token:
        return _ask_for_link("Ask for a new password", "We send you a mail with a link that sets a new password.")
    return _ask_for_password(token) if await passwords.is_good(request.app.state.context, token) else _expired()


@router.post(RESET, responses=_PAGES, response_class=Response)
async def use_reset_page(
    request: Request,
    email: Annotated[str, Form(description="asks for a mail with a link")] = "",
    token: Annotated[str, Form(description="from the link")] = "",
    password: Annotated[str, Form(description="the new password")] = "",
) -> Response:
    """What the forms of the page send: an e-mail address to ask for a link, or the link's token and a new password."""
    context = request.app.state.context
    if not token:
        try:
            wanted = schemas.ResetRequest(email=email)
        except ValidationError:
            return _ask_for_link("Ask for a new password", "That is not an e-mail address.", status=422)
        await passwords.request_reset(context, wanted.email)
        return html_page("Look into your mailbox", "If the address has an account, a mail with a link is on its way.")
    try:
        confirmation = schemas.ResetConfirmation(token=token, password=password)
        await passwords.confirm_reset(context, confirmation)
    except ValidationError as error:
        if any(fault["loc"] == ("token",) for fault in error.errors()):
            return _expired()
        return _ask_for_password(token, "The password must have 10 to 128 characters and no control characters.", status=422)
    except Invalid as fault:
        return _ask_for_password(token, *(f"The password {one['rule']}." for one in fault.errors or ()), status=422)
    except BadRequest:
        return _expired()
    return html_page("Your password is set", "All sessions have ended: sign in with the new password.")


_CONFIRM_FORM = Markup(
    '<form method="post" action="{action}"><input type="hidden" name="token" value="{token}"><button>Yes, this is my address</button></form>'
)


def _no_longer() -> Response:
    return html_page("This link no longer works", "It has expired, or the account has changed. Sign in to get a new one.", status=400)


@router.get(VERIFICATION, responses=_PAGES, response_class=Response, openapi_extra=_OPEN)
async def show_verification_page(
    request: Request, token: Annotated[str, Query(max_length=200, description="from the mail")] = ""
) -> Response:
    """The page of the link that verifies an e-mail address. It changes nothing."""
    account = await verifying.account_to_verify(request.app.state.context, token)
    if account is None:
        return _no_longer()
    said = f"Somebody has registered at Caravan with the address {account.email}. If that was you, confirm it; if not, close this page."
    return html_page("Is this your address?", said, _CONFIRM_FORM.format(action=VERIFICATION, token=token))


@router.post(VERIFICATION, responses=_PAGES, response_class=Response)
async def use_verification_page(request: Request, token: Annotated[str, Form(description="from the link")] = "") -> Response:
    """What the page's form sends: the address is verified. A second time changes nothing."""
    if not await verifying.verify(request.app.state.context, token):
        return _no_longer()
    return html_page("Thank you", "Your e-mail address is verified.")
