"""E-mail addresses: the one rule of what is an address, and of which spellings are the same one, for registering,
signing in and sending alike.

The domain is kept as it travels (IDNA 2008), so that nobody encodes it by another standard later; letters beyond ASCII
stand before the @ (RFC 6531).
"""

from functools import lru_cache
from typing import Annotated, Any, Final

import email_validator
from email_validator import EmailNotValidError, validate_email
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_MAX_LENGTH: Final = 254
# A shop inside a company or on a laptop has users of `.local` and `localhost`; the library would refuse those as not
# for the public.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def parse_email_address(text: str) -> str:
    """The address as it is kept: trimmed, in lower case, at most 64 octets before the @ and 254 in all. ValueError with
    the rule.
    """
    if len(text) > 2 * _MAX_LENGTH:
        raise ValueError(f"must have at most {_MAX_LENGTH} characters")
    try:
        parsed = validate_email(
            text.strip().lower(), check_deliverability=False, globally_deliverable=False, strict=True
        )
    except EmailNotValidError as refusal:
        raise ValueError(f"must be an e-mail address: {refusal}") from None
    address = f"{parsed.local_part}@{parsed.ascii_domain}"
    if len(parsed.local_part.encode()) > 64 or len(address.encode()) > _MAX_LENGTH:
        raise ValueError(f"must have at most 64 bytes before the @ and {_MAX_LENGTH} in all")
    return address


@lru_cache(maxsize=4096)
def is_email_address(text: str) -> bool:
    try:
        parse_email_address(text)
    except ValueError:
        return False
    return True


class _EmailRule:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(parse_email_address, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "format": "idn-email", "minLength": 3, "maxLength": _MAX_LENGTH}


EmailAddress = Annotated[str, _EmailRule()]
