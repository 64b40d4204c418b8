"""How one service asks another: typed operations, declared in the owner's `client.py`, served by its use cases.

In one process the use case is called directly; otherwise it is an HTTP call to `/internal/<service>/<operation>`. Both
have a deadline that callers pass down and a circuit breaker per target. Only operations with `is_repeatable` are tried
again, within a retry budget. `caravan/fault_attribution.py` decides whose fault a failed call is.

`operation.py` is what services declare, `caller.py` makes the calls.
"""

from caravan.client.caller import MAX_ENDPOINTS, MIN_BLAME_SECONDS, OperationClient
from caravan.client.operation import (
    BoundOperation,
    LocalOperation,
    Operation,
    authorization,
    deadline,
    verify_forwarded_caller,
)

__all__ = [
    "MAX_ENDPOINTS",
    "MIN_BLAME_SECONDS",
    "BoundOperation",
    "LocalOperation",
    "Operation",
    "OperationClient",
    "authorization",
    "deadline",
    "verify_forwarded_caller",
]
