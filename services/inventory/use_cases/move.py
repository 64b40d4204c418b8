"""Movements of stock by hand and by imports."""

from collections.abc import Sequence

from caravan.audit import record_audit
from caravan.auth import Caller
from caravan.database import UnitOfWork
from services.inventory.model import MovementContext, StockLedger
from services.inventory.schemas import MovementLine
from services.inventory.store import stock_changes, stock_table
from services.inventory.use_cases import InventoryContext, announce_after_commit


async def move_stock(
    context: InventoryContext, uow: UnitOfWork, caller: Caller, lines: Sequence[MovementLine]
) -> StockLedger:
    """Movements by hand, all or none. The first of a sku makes its stock. Receipts with references are one movement of
    each sku.
    """
    lines = _merge_receipts(lines)
    skus = {line.sku for line in lines}
    await stock_table.create_missing_stock(uow, skus)
    ledger = await stock_table.lock_stock(uow, skus)
    now = context.clock()
    for line in lines:
        movement = ledger.apply_movement(
            line.sku, line.kind, line.quantity, MovementContext(caller.audit_name, line.reason, now)
        )
        record_audit(
            uow,
            "stock.adjusted",
            f"stock:{line.sku}",
            kind=line.kind,
            quantity=movement.quantity,
            on_hand=movement.on_hand,
            reason=line.reason,
        )
    await stock_changes.save_with_new_reservations(uow, ledger, [])
    announce_after_commit(context, uow, ledger)
    return ledger


async def find_repeated_references(
    context: InventoryContext, uow: UnitOfWork, lines: Sequence[MovementLine]
) -> set[str]:
    """The references among these that are known; the others are known from here on."""
    references = {line.reference for line in lines if line.reference}
    return references - await stock_table.record_references(uow, references, context.clock()) if references else set()


def _merge_receipts(lines: Sequence[MovementLine]) -> list[MovementLine]:
    """An import says what each of its lines needs; the ledger needs no line for each of them."""
    quantities: dict[tuple[str, str], int] = {}
    other_lines = []
    for line in lines:
        if line.reference and line.kind == "receive":
            quantities[line.sku, line.reason] = quantities.get((line.sku, line.reason), 0) + line.quantity
        else:
            other_lines.append(line)
    return [
        MovementLine(sku=sku, kind="receive", quantity=quantity, reason=reason)
        for (sku, reason), quantity in quantities.items()
    ] + other_lines
