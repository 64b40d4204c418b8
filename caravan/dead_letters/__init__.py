"""Dead letters of every transport, outbox and job in one list: read, redriven, discarded.

`service.py` works over the sources, `operations.py` is what the gateway's `/v1/failures` calls.
"""

from caravan.dead_letters.operations import build_operations
from caravan.dead_letters.service import DeadLetterService, decode_service_name, encode_dead_letter_id
from caravan.dead_letters.sources import DeadLetterSource, SubscriptionDeadLetters

__all__ = [
    "DeadLetterService",
    "DeadLetterSource",
    "SubscriptionDeadLetters",
    "build_operations",
    "decode_service_name",
    "encode_dead_letter_id",
]
