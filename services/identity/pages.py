"""The HTML pages that identity's mails link to, for clients without an application of ours. They need no script.

Opening a page changes nothing; only sending its form does. So mail scanners that follow links do no harm.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Query
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import ValidationError

from caravan.errors import BadRequest, InvalidRequest
from caravan.http import FREE_PARAMETERS, Injected, document_html_responses, render_html_page
from services.identity import schemas
from services.identity.use_cases import email_verification, passwords
from services.identity.use_cases.keys import IdentityContext

RESET_PATH = passwords.RESET_PAGE
VERIFICATION_PATH = email_verification.VERIFICATION_PAGE
router = APIRouter(tags=["auth"])

_PASSWORD_FORM = Markup(
    '<form method="post" action="{action}"><input type="hidden" name="token" value="{token}"><label>New password'
    '<input type="password" name="password" autocomplete="new-password" minlength="10" maxlength="128" required '
    "autofocus></label>"
    "<button>Set the password</button></form>"
)
_EMAIL_FORM = Markup(
    '<form method="post" action="{action}"><label>Your e-mail address<input type="email" name="email" '
    'autocomplete="email" maxlength="254" required>'
    "</label><button>Send me a link</button></form>"
)
_PASSWORD_ADVICE = (
    "Choose a password of 10 to 128 characters; a few words that don't belong together are good. All your sessions end."
)
_FREE_PARAMETERS_EXTRA = {FREE_PARAMETERS: ""}
"""Programs that read mail add parameters of their own to links."""
_PAGE_RESPONSES = document_html_responses(
    s200="A page", s400="A page: the link no longer works", s422="A page: what was entered is not valid"
)


def _render_link_form(title: str, *paragraphs: str, status: int = 200) -> Response:
    return render_html_page(title, *paragraphs, _EMAIL_FORM.format(action=RESET_PATH), status=status)


def _render_expired_link() -> Response:
    return _render_link_form(
        "This link no longer works",
        "It has expired, was used, or a newer one was. You can ask for a new one.",
        status=400,
    )


def _render_password_form(token: str, *paragraphs: str, status: int = 200) -> Response:
    return render_html_page(
        "Choose a new password",
        *paragraphs,
        _PASSWORD_ADVICE,
        _PASSWORD_FORM.format(action=RESET_PATH, token=token),
        status=status,
    )


@router.get(RESET_PATH, responses=_PAGE_RESPONSES, response_class=Response, openapi_extra=_FREE_PARAMETERS_EXTRA)
async def show_reset_page(
    context: Injected[IdentityContext],
    token: Annotated[str, Query(max_length=200, description="from the link in the mail")] = "",
) -> Response:
    """The page of the link in a password reset mail; without a token, the form to ask for such a mail. It changes
    nothing.
    """
    if not token:
        return _render_link_form("Ask for a new password", "We send you a mail with a link that sets a new password.")
    return _render_password_form(token) if await passwords.is_valid_link(context, token) else _render_expired_link()


@router.post(RESET_PATH, responses=_PAGE_RESPONSES, response_class=Response)
async def submit_reset_page(
    context: Injected[IdentityContext],
    email: Annotated[str, Form(description="asks for a mail with a link")] = "",
    token: Annotated[str, Form(description="from the link")] = "",
    password: Annotated[str, Form(description="the new password")] = "",
) -> Response:
    """What the forms of the page send: an e-mail address to ask for a link, or the link's token and a new password."""
    return await (_set_password(context, token, password) if token else _mail_reset_link(context, email))


async def _mail_reset_link(context: IdentityContext, email: str) -> Response:
    try:
        reset = schemas.ResetRequest(email=email)
    except ValidationError:
        return _render_link_form("Ask for a new password", "That is not an e-mail address.", status=422)
    await passwords.request_reset(context, reset.email)
    return render_html_page(
        "Look into your mailbox", "If the address has an account, a mail with a link is on its way."
    )


async def _set_password(context: IdentityContext, token: str, password: str) -> Response:
    try:
        confirmation = schemas.ResetConfirmation(token=token, password=password)
        await passwords.confirm_reset(context, confirmation)
    except ValidationError as error:
        if any(fault["loc"] == ("token",) for fault in error.errors()):
            return _render_expired_link()
        return _render_password_form(
            token, "The password must have 10 to 128 characters and no control characters.", status=422
        )
    except InvalidRequest as fault:
        return _render_password_form(token, *(f"The password {one['rule']}." for one in fault.errors or ()), status=422)
    except BadRequest:
        return _render_expired_link()
    return render_html_page("Your password is set", "All sessions have ended: sign in with the new password.")


_CONFIRM_FORM = Markup(
    '<form method="post" action="{action}"><input type="hidden" name="token" value="{token}"><button>Yes, this is my '
    "address</button></form>"
)


def _render_invalid_verification() -> Response:
    return render_html_page(
        "This link no longer works", "It has expired, or the account has changed. Sign in to get a new one.", status=400
    )


@router.get(VERIFICATION_PATH, responses=_PAGE_RESPONSES, response_class=Response, openapi_extra=_FREE_PARAMETERS_EXTRA)
async def show_verification_page(
    context: Injected[IdentityContext], token: Annotated[str, Query(max_length=200, description="from the mail")] = ""
) -> Response:
    """The page of the link that verifies an e-mail address. It changes nothing."""
    account = await email_verification.find_account_to_verify(context, token)
    if account is None:
        return _render_invalid_verification()
    question = (
        f"Somebody has registered at Caravan with the address {account.email}. If that was you, confirm it; if not, "
        "close this page."
    )
    return render_html_page(
        "Is this your address?", question, _CONFIRM_FORM.format(action=VERIFICATION_PATH, token=token)
    )


@router.post(VERIFICATION_PATH, responses=_PAGE_RESPONSES, response_class=Response)
async def submit_verification_page(
    context: Injected[IdentityContext], token: Annotated[str, Form(description="from the link")] = ""
) -> Response:
    """What the page's form sends: the address is verified. A second time changes nothing."""
    if not await email_verification.verify_email(context, token):
        return _render_invalid_verification()
    return render_html_page("Thank you", "Your e-mail address is verified.")
