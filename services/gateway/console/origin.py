"""Where a request of a browser comes from, and where a page may send the browser."""

from urllib.parse import urlsplit

from starlette.requests import Request

from caravan.errors import Forbidden
from services.gateway.console.session import COOKIE_PATH

MAX_TARGET_LENGTH = 2000


def require_same_origin(request: Request, *, is_https: bool) -> None:
    """For whatever changes something. Raises Forbidden for a request that a page of another site made, or nobody knows
    who.
    """
    site = request.headers.get("sec-fetch-site")
    origin = urlsplit(request.headers.get("origin", ""))
    is_from_here = origin.netloc == request.headers.get("host") and (origin.scheme == "https" or not is_https)
    if not is_from_here or site not in (None, "same-origin"):
        raise Forbidden("this was not sent by a page of the console; open the page and press the button there")


def is_from_elsewhere(request: Request) -> bool:
    """Whether a link on another site was followed: the browser keeps the session's cookie back then."""
    return request.headers.get("sec-fetch-site") == "cross-site"


def read_local_target(text: str, fallback: str) -> str:
    """An address within the console; `fallback` instead of any other."""
    is_local = (
        len(text) <= MAX_TARGET_LENGTH
        and text.isascii()
        and text.isprintable()
        and "\\" not in text
        and (text == COOKIE_PATH or text.startswith((f"{COOKIE_PATH}/", f"{COOKIE_PATH}?")))
        and "//" not in urlsplit(text).path
        and not {".", ".."} & set(urlsplit(text).path.lower().replace("%2e", ".").split("/"))
    )
    return text if is_local else fallback
