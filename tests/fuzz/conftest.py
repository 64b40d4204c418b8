"""The shop of tests/api, with deadlines that a loaded machine doesn't reach, and the number of inputs in the last lines
of a run.
"""

import schemathesis

from tests.api.conftest import SETTINGS, World, world

__all__ = ["World", "world"]

SETTINGS |= {
    "GATEWAY_READ_TIMEOUT_SECONDS": "30",
    "GATEWAY_ADMINS_PER_MINUTE": "1000000",
    "GATEWAY_ORDERS_PER_MINUTE": "1000000",
    # All come from one address, and a run of minutes fails as often as it likes.
    "IDENTITY_FREE_ATTEMPTS_PER_ADDRESS": "10000",
}

# A mail is text; without this nothing is generated for the operation that takes one.
schemathesis.serializer.alias("message/rfc822", "text/plain")
