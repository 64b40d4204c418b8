"""Files of other shops are read right or not at all, and a line is known again however it was saved."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cli import app
from cli.retail.conventions import ReadingOptions
from cli.retail.invoices import build_invoices
from cli.retail.lines import (
    BAD_CUSTOMER,
    BAD_DATE,
    BAD_PRICE,
    OTHER_CURRENCY,
    InvoiceFile,
    classify_file,
    count_reasons,
    drop_repeated_lines,
)
from cli.retail.reader import BLANK_LINE, UNREADABLE, NotAnInvoiceFile
from tests.cli.shop_files import NOBODY, RETAIL, Style, comma, continental, group_digits, point, sales, shop_files

FILES = {file.name: file for file in shop_files()}
HEADER = ",".join(RETAIL)
SALE = "700001,10001,TIN LANTERN,6,2011-03-01 08:05:00,2.55,20001.0,United Kingdom"


def read(*lines: str, header: str = HEADER, **options: object) -> InvoiceFile:
    text = "\n".join((header, *lines, ""))
    return classify_file("test.csv", text.encode(), ReadingOptions(**options))  # type: ignore[arg-type]


def caravan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["import", *arguments], env={"COLUMNS": "80"})


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_shop_has_the_right_totals(name: str) -> None:
    file = FILES[name]
    found = classify_file(name, file.content, file.options)
    assert found.is_accounted_for
    assert found.currency == file.currency
    assert (len(found.refusals), found.continuation_count) == (file.refused, file.continued), found.refusals
    assert sum(line.quantity for line in found.sales) == file.units
    assert sum(line.quantity * line.price for line in found.sales) == file.value
    guests = len({sale.invoice for sale in file.lines if sale.customer is None})
    assert len({line.invoice for line in found.sales if line.customer is None}) == guests
    assert sorted(line.time.date() for line in found.sales) == sorted(
        sale.time.date() for sale in file.lines if sale.quantity > 0
    )
    assert len(found.returns) == sum(sale.quantity < 0 for sale in file.lines)
    assert {line.description.replace('3"', "3") for line in found.sales} == {
        " ".join(sale.description.split()) for sale in file.lines
    }
    assert len(build_invoices([found])) == len({sale.invoice for sale in file.lines if sale.quantity > 0})


@pytest.mark.parametrize("name", FILES)
def test_each_report_says_how_the_file_was_read(name: str, tmp_path: Path) -> None:
    file, path = FILES[name], tmp_path / "export.csv"
    path.write_bytes(file.content)
    options = ["--dates", file.options.date_order] if file.options.date_order else []
    shown = caravan("--explain", str(path), *options)
    assert shown.exit_code == 0, shown.output
    summary = json.loads(caravan("--dry-run", "--output", "json", str(path), *options).output)["files"][0]
    for note in summary["read_as"]:
        assert note["what"] in shown.output
    assert summary["read"] == len(file.lines) + file.refused + file.continued
    assert f"{summary['read']:,}" in shown.output
    assert "The first lines as read" in shown.output


def test_a_quote_that_is_opened_and_closed_in_other_rows_swallows_none() -> None:
    found = read(SALE.replace("TIN", '"TIN'), SALE, SALE.replace("LANTERN", 'LANTERN"'), SALE)
    assert [(refusal.number, refusal.reason) for refusal in found.refusals] == [(2, UNREADABLE)]
    assert (found.line_count, len(found.sales), found.continuation_count) == (4, 3, 0)


@pytest.mark.parametrize("text", NOBODY)
def test_every_spelling_of_nobody_is_a_guest(text: str) -> None:
    assert read(SALE.replace("20001.0", text)).sales[0].customer is None


@pytest.mark.parametrize("text", ["0007", "nancy", "NULLE", "none1", "a.b@mail.example"])
def test_what_only_looks_like_nobody_is_somebody(text: str) -> None:
    assert read(SALE.replace("20001.0", text)).sales[0].customer == text.lower().lstrip("0")


def test_the_order_of_dates_is_found_out_from_the_whole_file() -> None:
    first = [SALE.replace("2011-03-01 08:05:00", f"{day:02}/03/2011 08:05") for day in range(1, 29)]
    assert [line.time.day for line in read(*first).sales] == list(range(1, 29))
    second = [SALE.replace("2011-03-01 08:05:00", f"3/{day}/2011 8:05") for day in range(1, 29)]
    assert [line.time.day for line in read(*second).sales] == list(range(1, 29))


@pytest.mark.parametrize("text", ["12/1/10 8:26", "12-01-2010 08:26", "12/1/2010 8:26", "12/01/2010"])
def test_the_set_s_own_dates_are_read_as_it_writes_them_and_those_of_others_are_asked_for(text: str) -> None:
    assert read(SALE.replace("2011-03-01 08:05:00", text)).sales[0].time.date().isoformat() == "2010-12-01"
    other = SALE.replace("2011-03-01 08:05:00", text).replace(",10001,", ",TEA,")
    with pytest.raises(NotAnInvoiceFile, match=r"in line 2 .* --dates day-first"):
        read(other)
    assert read(other, date_order="day-first").sales[0].time.date().isoformat() == "2010-01-12"


@pytest.mark.parametrize(
    ("text", "day"),
    [("01/12/2010 08:26", "2010-12-01"), ("12/1/2010 8:26", "2010-12-01"), ("12/01/10 8:26", "2010-12-01")],
)
def test_the_set_s_invoice_numbers_tell_the_order_of_its_dates(text: str, day: str) -> None:
    lines = [
        SALE.replace("700001", str(number)).replace("2011-03-01 08:05:00", text) for number in range(536365, 536375)
    ]
    assert {line.time.date().isoformat() for line in read(*lines).sales} == {day}


@pytest.mark.parametrize(
    "text",
    [
        "25.03.11", "25.3.2011 8.05", "25/03/2011 08:05:00", "3/25/11 8:05 PM", "2011-03-25T08:05:00Z",
        "2011-03-25T08:05:00.123+01:00", "2011/03/25",
        "20110325", "Mar 25, 2011", "25-Mar-11", "25 March 2011", "25. März 2011", "25 mars 2011", "25 marzo 2011",
        "25 mrt 2011", "2011-3-25",
    ],
)  # fmt: skip
def test_a_date_that_tells_its_order_is_read_in_any_form(text: str) -> None:
    assert read(SALE.replace("2011-03-01 08:05:00", f'"{text}"')).sales[0].time.date().isoformat() == "2011-03-25"


@pytest.mark.parametrize(
    ("text", "month"),
    [("1 juin 2011", 6), ("1 juillet 2011", 7), ("1. Dez. 2011", 12), ("1 août 2011", 8), ("1 ago 2011", 8)],
)
def test_months_are_read_in_the_languages_of_the_known_exports(text: str, month: int) -> None:
    assert read(SALE.replace("2011-03-01 08:05:00", text)).sales[0].time.month == month


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("2,55 €", "EUR", 255), ("EUR 2,55", "EUR", 255), ("£1,234.50", "GBP", 123450), ("1.234,50", "GBP", 123450),
        ("1\u00a0234,50", "GBP", 123450),
        ("1'234.50", "GBP", 123450), ("¥1250", "JPY", 1250), ("1.250 KWD", "KWD", None),
        ("12.345,678 KWD", "KWD", 12345678), ("2.50 zł", "PLN", 250),
    ],
)  # fmt: skip
def test_amounts_are_read_with_their_signs_and_the_decimals_of_their_currency(
    text: str, currency: str, minor: int | None
) -> None:
    line = SALE.replace("2.55", f'"{text}"')
    if minor is None:
        with pytest.raises(NotAnInvoiceFile, match="--decimal"):
            read(line)
        minor = 1250
        found = read(line, decimals="point")
    else:
        found = read(line)
    assert (found.currency, found.sales[0].price) == (currency, minor)


def test_dates_that_would_jump_from_month_to_month_are_asked_for() -> None:
    lines = [
        SALE.replace("700001", str(700001 + n)).replace("2011-03-01 08:05:00", f"0{n}/02/2011") for n in range(1, 8)
    ]
    with pytest.raises(NotAnInvoiceFile, match="--dates day-first"):
        read(*lines)
    assert {line.time.month for line in read(*lines, date_order="day-first").sales} == {2}


def test_dates_that_contradict_each_other_are_refused_as_a_whole_but_one_typing_error_is_not() -> None:
    both = [SALE.replace("2011-03-01", date) for date in ("13/03/2011", "03/14/2011")]
    with pytest.raises(NotAnInvoiceFile, match=r"13/03/2011 08:05:00 in line 2.*03/14/2011 08:05:00 in line 3"):
        read(*both)
    found = read(*[both[0]] * 30, both[1])
    assert len(found.sales) == 30
    assert dict(count_reasons([found])) == {BAD_DATE: 1}


@pytest.mark.parametrize(
    ("price", "decimals", "pence"), [("1,250", "point", 125_000), ("1,250", "comma", 125), ("1.250", "comma", 125_000)]
)
def test_a_number_that_may_be_thousands_or_decimals_is_asked_for(price: str, decimals: str, pence: int) -> None:
    line = SALE.replace("2.55", f'"{price}"')
    with pytest.raises(NotAnInvoiceFile, match="--decimal point or --decimal comma"):
        read(line)
    found = read(line, decimals=decimals)
    assert [each.price for each in found.sales] == [pence]
    assert read(line, SALE).sales[-1].price == 255


@pytest.mark.parametrize("sign", "’€…“”–œŠž™£")
def test_the_signs_of_windows_1252_are_kept(sign: str) -> None:
    content = "\n".join((HEADER, SALE.replace("TIN", f"TIN {sign}"), SALE.replace("TIN", "CAFÉ"))).encode("cp1252")
    found = classify_file("x", content)
    assert [line.description for line in found.sales] == [f"TIN {sign} LANTERN", "CAFÉ LANTERN"]
    assert found.encoding == "windows-1252"
    mixed = content + b"\n" + SALE.replace("TIN", "MÜNZE €").encode()
    assert [line.description for line in classify_file("x", mixed).sales][-1] == "MÜNZE € LANTERN"


def test_the_rules_of_the_set_hold_for_files_of_its_shape_only() -> None:
    found = read(
        SALE, SALE.replace("700001", "CAB1"), SALE.replace(",10001,", ",POST,"), SALE.replace(",10001,", ",TEA,")
    )
    assert (len(found.sales), found.refusals) == (4, [])
    found = read(*[SALE] * 40, SALE.replace("700001", "CAB1"), SALE.replace(",10001,", ",POST,"))
    assert (len(found.sales), len(found.returns), len(found.refusals)) == (41, 0, 1)


def test_a_second_currency_is_refused_line_by_line() -> None:
    found = read(*[f"{SALE},EUR"] * 3, f"{SALE},USD", header=f"{HEADER},Currency")
    assert (found.currency, len(found.sales), dict(count_reasons([found]))) == ("EUR", 3, {OTHER_CURRENCY: 1})
    assert read(SALE.replace("2.55", "1250"), currency="JPY").sales[0].price == 1250


@pytest.mark.parametrize("text", ["TBD", "NAN", "N/A", "free", ""])
def test_what_is_no_price_is_no_currency_either(text: str) -> None:
    found = read(SALE, SALE.replace("2.55", text))
    assert (found.currency, len(found.sales), dict(count_reasons([found]))) == ("GBP", 1, {BAD_PRICE: 1})


def test_a_currency_column_with_words_of_its_own_is_asked_for() -> None:
    header, lines = f"{HEADER},Currency", [f"{SALE},Pounds"] * 2
    with pytest.raises(NotAnInvoiceFile, match="--currency"):
        read(*lines, header=header)
    assert len(read(*lines, header=header, currency="gbp").sales) == 2


def test_columns_can_be_named_or_said_to_be_missing() -> None:
    header = "nr,what,words,many,when,each"
    line = "1,TEA,Tea,2,2011-03-01,2.50"
    with pytest.raises(NotAnInvoiceFile, match="--column"):
        read(line, header=header)
    columns = {"invoice": "nr", "sku": "What", "quantity": "many", "date": "when", "price": "each", "customer": "none"}
    sale = read(line, header=header, columns=columns).sales[0]
    assert (sale.invoice, sale.sku, sale.quantity, sale.price, sale.customer) == ("1", "TEA", 2, 250, None)


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        ([SALE.replace(",6,", ",six,")] * 3, 1, "none of its 3 lines can be used"),
        ([], 1, "none of its 0 lines"),
        ([SALE.replace(",10001,", ",TEA,").replace("2011-03-01", "01/03/2011")], 2, "--dates"),
        ([SALE, SALE.replace(",6,", ",six,")], 0, "bad quantity"),
    ],
)
def test_the_exit_status_says_whether_anything_was_used(
    lines: Sequence[str], status: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\n".join((HEADER, *lines)))
    for command in (["--dry-run"], ["--explain"]):
        found = caravan(*command, str(path))
        assert found.exit_code == status and words in " ".join(found.output.split()), found.output


STYLES = st.builds(
    Style,
    delimiter=st.sampled_from(",;\t|"),
    number=st.sampled_from([point, comma, group_digits, continental]),
    date=st.sampled_from(
        ["%Y-%m-%d %H:%M:%S", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d.%m.%y %H:%M", "%Y%m%d", "%d-%b-%Y", "%m/%d/%y %I:%M %p"]
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    nobody=st.lists(st.sampled_from(NOBODY), min_size=1),
)


@given(STYLES)
def test_a_line_is_the_same_line_however_it_is_saved(style: Style) -> None:
    lines = [replace(sale, description="CAFÉ ’N") for sale in sales()]
    known = {line.identity for line in classify_file("x", Style().write(lines)).sales}
    found = classify_file("y", style.write(lines))
    assert len(known) == len(lines)
    assert {line.identity for line in found.sales} == known


def test_equal_lines_of_a_file_are_two_and_those_of_overlapping_exports_are_one() -> None:
    whole = read(SALE, SALE, SALE.replace("700001", "700002"))
    part = read(SALE, SALE)
    assert len({line.identity for line in whole.sales}) == 3
    first, second = drop_repeated_lines([part, whole])
    assert (len(first.sales), len(second.sales), second.repeated_lines) == (2, 1, (2, 3))
    assert second.is_accounted_for
    moved = replace(whole.sales[0], time=datetime(2012, 1, 1))
    assert moved.identity == whole.sales[0].identity, "given once, when it is read"


def test_a_customer_that_is_no_code_is_refused_with_its_line() -> None:
    assert dict(count_reasons([read(SALE, SALE.replace("20001.0", "Jane Doe"))])) == {BAD_CUSTOMER: 1}
    assert dict(count_reasons([read(SALE, ",,,,,,,")])) == {BLANK_LINE: 1}
