"""The provider's own books, for whoever compares them with ours."""

from caravan.clock import EPOCH
from services.payments.client import Statement, StatementEntry, StatementRequest
from services.payments.use_cases import PaymentsContext


async def read_statement(context: PaymentsContext, request: StatementRequest) -> Statement:
    provider = context.resources.provider
    entries = (
        await provider.list_statement((request.after_time or EPOCH, request.after_key), request.limit)
        if request.references is None
        else await provider.list_entries_of(request.references)
    )
    return Statement.model_construct(
        items=[
            StatementEntry.model_construct(
                key=entry.key,
                reference=entry.reference,
                kind=entry.kind,
                outcome=entry.outcome,
                amount=entry.amount.amount,
                currency=entry.amount.currency,
                at=entry.at,
            )
            for entry in entries
        ]
    )
