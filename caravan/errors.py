"""One tree of errors, each with its HTTP status; `caravan/http/problems.py` renders them as RFC 9457 problem documents.

A `Problem` is what a client may be told; its subclasses have a status each. `MessageRejected` is for handlers of
messages: trying again can't help, the message becomes a dead letter at once.
"""

from typing import Any, ClassVar

TYPE_BASE = "https://caravan.dev/problems/"


class Problem(Exception):
    """`detail` says what, which id and what to do next; `errors` names fields: `[{"field": "lines.0.quantity", "rule":
    "..."}]`.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    slug: ClassVar[str] = "internal-error"
    fault: str = ""
    """Whose it is, when it is not the raiser's own: a word of `caravan.fault_attribution`."""

    def __init__(
        self,
        detail: str,
        *,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.extra = extra

    @property
    def type(self) -> str:
        return TYPE_BASE + self.slug


class BadRequest(Problem):
    status, title, slug = 400, "Bad request", "bad-request"


class Unauthorized(Problem):
    status, title, slug = 401, "Authentication required", "unauthorized"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="caravan"'}, **extra)


class Forbidden(Problem):
    status, title, slug = 403, "Forbidden", "forbidden"


class NotFound(Problem):
    status, title, slug = 404, "Not found", "not-found"


class RequestTimeout(Problem):
    status, title, slug = 408, "The request came too slowly", "too-slow"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class Conflict(Problem):
    status, title, slug = 409, "Conflict", "conflict"


class RequestInFlight(Conflict):
    title, slug = "A request with this key is in flight", "in-flight"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class PreconditionFailed(Problem):
    status, title, slug = 412, "The resource has changed since you read it", "stale-edit"


class ContentTooLarge(Problem):
    status, title, slug = 413, "Content too large", "too-large"


class UnsupportedMediaType(Problem):
    status, title, slug = 415, "Unsupported media type", "unsupported-media-type"


class InvalidRequest(Problem):
    status, title, slug = 422, "The request is not valid", "invalid"


class TooManyRequests(Problem):
    status, title, slug = 429, "Too many requests", "too-many-requests"

    def __init__(self, detail: str, *, retry_after: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after), **(headers or {})})


class ServiceUnavailable(Problem):
    status, title, slug = 503, "A part of the shop is not available", "unavailable"

    def __init__(self, detail: str, *, retry_after: int = 1, fault: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
        self.fault = fault


class CapacityExceeded(ServiceUnavailable):
    """A bound of who answers is reached, which clients can bring about: it says nothing of whether the service works,
    and is booked to nobody.
    """

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after=retry_after, fault="unknown")


class DeadlineExceeded(Problem):
    status, title, slug = 504, "The deadline has passed", "deadline-exceeded"


class MessageRejected(Exception):
    """Raised by a message handler when no further attempt can help; the message becomes a dead letter with this
    reason.
    """
