"""What messages a client may send on a socket (`sockets.py`), and the codes with which a socket ends: those of
graphql-transport-ws, and of RFC 6455.
"""

from typing import Any

import orjson

SUBPROTOCOL = "graphql-transport-ws"
MAX_ID_LENGTH = 128
TIME_OVER, SERVICE_RESTART, TRY_AGAIN_LATER, INTERNAL_ERROR = 1001, 1012, 1013, 4500
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, INIT_TIMEOUT, DUPLICATE_ID, TOO_MANY_INITS = 4400, 4401, 4403, 4408, 4409, 4429
SUBPROTOCOL_NOT_ACCEPTABLE = 4406
COUNTED_CODES = frozenset(
    {
        *(1000, 1008, 1009, 1011, TIME_OVER, SERVICE_RESTART, TRY_AGAIN_LATER, INTERNAL_ERROR),
        *(BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, INIT_TIMEOUT, DUPLICATE_ID, TOO_MANY_INITS),
    }
)


class SocketClosed(Exception):
    """Ends the socket with this code. Clients that connect again by themselves do so after 1001, 1012, 1013 and
    4403.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:120].decode(errors="ignore")  # a close frame holds little more


def parse_message(text: str | None) -> dict[str, Any]:
    """Raises SocketClosed."""
    if text is None:
        raise SocketClosed(BAD_REQUEST, "messages are texts")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SocketClosed(BAD_REQUEST, f"a message is not valid JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise SocketClosed(BAD_REQUEST, "a message is an object with a type")
    return message


def read_id(message: dict[str, Any]) -> str:
    """Raises SocketClosed."""
    given = message.get("id")
    if not isinstance(given, str) or not 0 < len(given) <= MAX_ID_LENGTH:
        raise SocketClosed(BAD_REQUEST, f"the id of an operation is a text of at most {MAX_ID_LENGTH} characters")
    return given


def read_token(payload: Any) -> str | None:
    """What stands where a request has its header `Authorization`. Raises SocketClosed."""
    if not isinstance(payload, dict | None):
        raise SocketClosed(BAD_REQUEST, "the payload of connection_init is an object")
    tokens = [value for name, value in (payload or {}).items() if name.lower() == "authorization"]
    if len(tokens) > 1 or not all(isinstance(token, str) for token in tokens):
        raise SocketClosed(BAD_REQUEST, "Authorization in the payload of connection_init is one text")
    return tokens[0] if tokens else None
