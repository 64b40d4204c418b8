"""Enhanced status codes of mail servers (RFC 3463): whose fault a refusal is. Providers meet them in replies,
`delivery_reports.py` in what servers send back.
"""

import re

_PERMANENT = re.compile(r"5\.(\d{1,3})\.(\d{1,3})\b")


def has_enhanced_status(reply: str) -> bool:
    return _PERMANENT.match(reply) is not None


def is_bad_address(status: str) -> bool:
    """Whether it says that the address itself takes no mail: 5.1.x, or a mailbox that is disabled. What the server
    thinks of us, or a mailbox that is full, is no fault of the address.
    """
    found = _PERMANENT.match(status)
    return found is not None and (found[1] == "1" or (found[1], found[2]) == ("2", "1"))
