"""`caravan import` and `caravan replay` against the real shop: the books agree, and whatever is repeated adds
nothing.
"""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caravan.runtime import Backends
from cli.api_client import ApiClient as Caller
from cli.import_files import import_into
from cli.order_comparison import UNDONE_STATUSES, Difference, OrderAudit
from cli.place_orders import place_orders
from cli.replay import reconcile_orders
from cli.replay_report import ReplayResult
from cli.retail.catalogue import build_catalogue
from cli.retail.invoices import build_invoices, match_returns
from cli.retail.lines import InvoiceFile, classify_file
from cli.terminal import print_note as say
from services.registry import SERVICES
from tests.support.new_cluster import SECRET
from tests.support.shop import Shop, run_services

DAY = Path(__file__).parent / "data" / "day.csv"


@pytest.fixture(scope="module")
async def shop(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SHIPPING_PICKUP_SECONDS", "1.0")
    patch.setenv("SHIPPING_DELIVERY_SECONDS", "0.1")
    patch.setenv("RECONCILIATION_SETTLE_SECONDS", "1")
    try:
        async with run_services(backends, *SERVICES, data=tmp_path_factory.mktemp("shop")) as started:
            yield started
    finally:
        patch.undo()


@pytest.fixture
def caller(shop: Shop) -> Caller:
    return Caller(shop.client, SECRET, say, max_wait_seconds=20)


def day(prefix: str) -> InvoiceFile:
    """The sample day with invoices and products of its own."""
    text = (
        DAY.read_text().replace("\n7", f"\n{prefix}7").replace("\nC7", f"\nC{prefix}7").replace(",100", f",{prefix}100")
    )
    return classify_file("day.csv", text.encode())


async def replayed(caller: Caller, file: InvoiceFile) -> tuple[ReplayResult, list[OrderAudit], list[Difference]]:
    orders = build_invoices([file])
    replay_result = await place_orders(caller, orders, match_returns([file], orders).cancellations, 4, None)
    audits, differing = await reconcile_orders(caller, orders, replay_result, 4, 60)
    return replay_result, audits, differing


async def stock_of(caller: Caller, file: InvoiceFile) -> dict[str, tuple[int, int]]:
    levels = {sku: await caller.fetch_json(f"/v1/stock/{sku}") for sku in sorted({line.sku for line in file.sales})}
    return {sku: (level["on_hand"], level["reserved"]) for sku, level in levels.items()}


async def test_importing_again_adds_nothing(caller: Caller) -> None:
    file = day("81")
    first = await import_into(caller, [file], build_catalogue([file]), 4)
    stock = await stock_of(caller, file)
    again = await import_into(caller, [file], build_catalogue([file]), 4)
    assert (first.products, first.units, first.files_stocked) == (4, 50, 1)
    assert (again.new_customers, again.units, again.files_stocked, again.files_stocked_before) == (0, 0, 0, 1)
    assert (
        await stock_of(caller, file)
        == stock
        == {"8110001": (11, 0), "8110002": (36, 0), "8110003A": (1, 0), "8110004": (2, 0)}
    )


async def test_what_was_received_is_known_again_in_a_file_saved_anew_and_in_a_longer_one(caller: Caller) -> None:
    file, lines = day("85"), DAY.read_text().splitlines()
    text = "\n".join(lines).replace("\n7", "\n857").replace("\nC7", "\nC857").replace(",100", ",85100")
    part = classify_file("part.csv", "\n".join(text.splitlines()[:3]).encode())
    first = await import_into(caller, [part], build_catalogue([part]), 4)
    whole = await import_into(caller, [file], build_catalogue([file]), 4)
    assert (first.units, whole.units, whole.files_stocked) == (18, 32, 1)
    saved = classify_file("saved.csv", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    other = classify_file("other.csv", text.replace('"BAG, PAISLEY"', "BAG").replace(",", ";").encode("utf-16"))
    for again in (saved, other):
        assert again.digest != file.digest
        import_result = await import_into(caller, [again], build_catalogue([again]), 4)
        assert (import_result.units, import_result.files_stocked_before) == (0, 1)
    assert await stock_of(caller, file) == {
        "8510001": (11, 0),
        "8510002": (36, 0),
        "8510003A": (1, 0),
        "8510004": (2, 0),
    }


async def test_the_books_agree_after_a_replay_and_a_second_one_places_nothing(caller: Caller) -> None:
    file = day("82")
    await import_into(caller, [file], build_catalogue([file]), 4)
    replay_result, audits, differing = await replayed(caller, file)
    assert differing == []
    assert (
        len(replay_result.placed),
        replay_result.placed_before,
        replay_result.refused_invoices,
        len(replay_result.cancellations),
    ) == (4, 0, [], 1)
    statuses = Counter(
        "undone" if each.status in UNDONE_STATUSES else each.status for each in audits
    )  # refunded, when the money was quicker
    assert statuses == {"undone": 1, "delivered": 3}
    stock = await stock_of(caller, file)
    assert stock == {"8210001": (0, 0), "8210002": (0, 0), "8210003A": (1, 0), "8210004": (0, 0)}

    again, _, differing = await replayed(caller, file)
    assert differing == []
    assert (again.placed, again.placed_before) == (replay_result.placed, 4)
    assert await stock_of(caller, file) == stock


async def test_a_return_that_comes_after_the_parcel_has_left_is_counted_apart(caller: Caller) -> None:
    file = day("83")
    await import_into(caller, [file], build_catalogue([file]), 4)
    orders = build_invoices([file])
    replay_result = await place_orders(caller, orders, [], 4, None)
    await reconcile_orders(caller, orders, replay_result, 4, 60)
    late, audits, differing = await replayed(caller, file)
    assert differing == []
    assert (late.cancellations, [each.order.number for each in late.late_cancellations]) == ([], ["83700002"])
    assert {each.status for each in audits} == {"delivered"}


async def test_an_invoice_that_cannot_be_served_or_comes_with_other_lines_is_named_and_hurts_no_other(
    caller: Caller,
) -> None:
    file = day("84")
    await import_into(caller, [file], build_catalogue([file]), 4)
    first, _, _ = await replayed(caller, file)
    other = classify_file(
        "day.csv",
        DAY.read_text().replace("\n7", "\n847").replace(",100", ",84100").replace("MUG,24", "MUG,25").encode(),
    )
    text = "\n".join(
        (DAY.read_text().splitlines()[0], "849999,8410002,MUG,1000,2011-03-01 12:00:00,1.25,20001.0,France")
    )
    short = classify_file("short.csv", text.encode())
    assert len(first.placed) == 4
    replay_result, _, differing = await replayed(caller, other)
    assert [(invoice.number, why) for invoice, why in replay_result.refused_invoices] == [
        ("84700004", "it was placed before with other lines")
    ]
    assert differing == []
    replay_result, _, _ = await replayed(caller, short)
    assert [(invoice.number, why.partition(" ")[0]) for invoice, why in replay_result.refused_invoices] == [
        ("849999", "409")
    ]
