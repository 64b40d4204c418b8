"""The outbox of a service: its rows are written with the state that they report, by `caravan/database/unit_of_work.py`.

`relay.py` moves them to the bus; `dead_letters.py` has those that the bus refused.
"""

from caravan.outbox.dead_letters import OutboxDeadLetters
from caravan.outbox.relay import OutboxRelay, count_pending

__all__ = ["OutboxDeadLetters", "OutboxRelay", "count_pending"]
