"""The audit log: who did what to what, on a topic of its own with long retention.

`record_audit` writes in the unit of work of the action itself. What is done outside a database, such as to the queues
of jobs, is recorded before it (`begun`) and after it (with its result).
"""

from datetime import timedelta
from typing import Any

from caravan import telemetry
from caravan.database import UnitOfWork
from caravan.messages import Delivery, Event, Topic


class AuditRecorded(Event):
    """One deed. `actor` is `<role>:<id>` (or `<who> for <role>:<id>`), `target` what it was done to, such as
    `product:MUG`.
    """

    actor: str
    action: str
    target: str
    result: str = "done"
    details: dict[str, Any] = {}
    trace_id: str | None = None


OPERATOR = "operator"
"""Who works on the backends themselves, from a shell: there is no token that says who it is."""

AUDIT = Topic(
    "audit",
    owner="every service",
    events=(AuditRecorded,),
    key="target",
    purpose="Logins, captures, refunds, who was refused, and all that staff and admins do: to users, products, stock, "
    "campaigns, orders, failures and jobs, with actor and trace id.",
    retention=timedelta(days=365),
)


def record_audit(
    uow: UnitOfWork,
    action: str,
    target: str,
    *,
    actor: str | None = None,
    result: str = "done",
    caused_by: Delivery[Any] | None = None,
    **details: Any,
) -> None:
    """Record an action (`price.changed`, `login.failed`) of the present caller, or of `actor`. Never put a secret into
    the details. `caused_by`: the message that it is done for, in whose trace it stays; the caller of that message is
    who did it.
    """
    actor_name = actor or (caused_by.actor if caused_by else None) or telemetry.actor.get() or "anonymous"
    trace_id = telemetry.parse_trace_id(caused_by.traceparent if caused_by else None) or telemetry.get_trace_id()
    uow.emit(
        AUDIT,
        AuditRecorded(
            actor=actor_name, action=action, target=target, result=result, details=details, trace_id=trace_id
        ),
        key=target,
        caused_by=caused_by,
    )
