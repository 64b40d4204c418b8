"""The life of a case.

    move \\ from   open               awaiting_approval   repairing   resolved   closed   dismissed
    repair        repairing¹         -                   -           -          -        -
    approve       -                  repairing²          -           -          -        -
    dismiss       dismissed          dismissed           -           -          -        -
    gap is gone   closed             closed              resolved    -          -        -
    still there   -                  -                   open³       -          -        -

¹ awaiting_approval, when more money moves than one admin may move alone   ² by another admin than the one who asked
³ after a while: the repair changed nothing
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from caravan.errors import Conflict, Forbidden
from services.reconciliation.model.classes import CLASSES, Gap, GapClass

CaseState = Literal["open", "awaiting_approval", "repairing", "resolved", "closed", "dismissed"]
UNSETTLED = ("open", "awaiting_approval", "repairing")


class IllegalCaseMove(Conflict):
    title, slug = "The case is not in a state for this", "illegal-case-move"


class NotRepairable(Conflict):
    """No command of the owning service corrects a gap of this class safely: a person has to."""

    title, slug = "Gaps of this class are not repaired by a command", "not-repairable"


class SecondPersonNeeded(Forbidden):
    title, slug = "Another admin has to approve this", "second-person-needed"


@dataclass(slots=True)
class Case:
    """`details` is JSON."""

    id: UUID
    gap_class: str
    subject: str
    order_id: UUID | None
    amount: int
    currency: str
    details: str
    state: CaseState
    version: int
    proposed_by: str | None
    opened_at: datetime
    seen_at: datetime
    changed_at: datetime

    @property
    def declared(self) -> GapClass:
        return CLASSES[self.gap_class]

    def request_repair(self, actor: str, four_eyes_amount: int) -> None:
        """Repair, or ask another admin to. Raises NotRepairable and IllegalCaseMove."""
        self._check_repairable()
        if self.state != "open":
            raise IllegalCaseMove(f"the case is {self.state}; only an open one is repaired")
        self.proposed_by = actor
        self.state = "awaiting_approval" if self.needs_second_person(four_eyes_amount) else "repairing"

    def approve(self, actor: str) -> None:
        """Raises IllegalCaseMove, and SecondPersonNeeded for the admin who asked for it."""
        if self.state != "awaiting_approval":
            raise IllegalCaseMove(f"the case is {self.state}; nothing waits for approval")
        if actor == self.proposed_by:
            raise SecondPersonNeeded("you asked for this repair yourself: another admin has to approve it")
        self.state = "repairing"

    def dismiss(self) -> None:
        if self.state not in ("open", "awaiting_approval"):
            raise IllegalCaseMove(f"the case is {self.state}; only an open one is dismissed")
        self.state = "dismissed"

    def needs_second_person(self, four_eyes_amount: int) -> bool:
        """What moves no money needs none."""
        return self.declared.repair == "refund_payment" and self.amount > four_eyes_amount

    def _check_repairable(self) -> None:
        if self.declared.repair is None or self.order_id is None:
            raise NotRepairable(f"{self.gap_class}: {self.declared.action}; dismiss the case with what you did")


def settle(state: CaseState) -> CaseState:
    """What a case becomes whose gap is gone."""
    return "resolved" if state == "repairing" else "closed"


def describe_step(gap: Gap) -> dict[str, Any]:
    return {name: value for name, value in gap.details.items() if value not in (None, [], {})}
