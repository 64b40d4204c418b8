"""Every line of an invoice file gets exactly one verdict, whatever the file holds."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli.retail.lines import (
    BAD_CUSTOMER,
    BAD_DATE,
    BAD_INVOICE_NUMBER,
    BAD_PRICE,
    BAD_QUANTITY,
    BAD_STOCK_CODE,
    NOT_GOODS,
    POSITIVE_RETURN,
    STOCK_ADJUSTMENT,
    TOO_MANY_DECIMALS,
    ZERO_PRICE,
    InvoiceFile,
    classify_file,
    count_reasons,
)
from cli.retail.reader import BLANK_LINE, UNREADABLE, WRONG_FIELD_COUNT, NotAnInvoiceFile

DAY = Path(__file__).parent / "data" / "day.csv"
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
SALE = "700001,10001,TIN LANTERN,6,2011-03-01 08:05:00,2.55,20001.0,United Kingdom"


def read(*lines: str, encoding: str = "utf-8", end: str = "\n") -> InvoiceFile:
    return classify_file("test.csv", (end.join((HEADER, *lines)) + end).encode(encoding))


def test_a_day_is_used_or_refused_line_by_line() -> None:
    day = classify_file("day.csv", DAY.read_bytes())
    assert (day.line_count, len(day.sales), len(day.returns), len(day.refusals)) == (18, 7, 4, 7)
    assert dict(count_reasons([day])) == {NOT_GOODS: 3, STOCK_ADJUSTMENT: 2, ZERO_PRICE: 1, TOO_MANY_DECIMALS: 1}
    assert [(refusal.number, refusal.reason) for refusal in day.refusals][:2] == [
        (7, NOT_GOODS),
        (10, STOCK_ADJUSTMENT),
    ]
    assert day.is_accounted_for


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", BLANK_LINE),
        ('700001,10001,"TIN,6,2011-03-01 08:05:00,2.55,20001.0,United Kingdom', UNREADABLE),
        (SALE + ",more", WRONG_FIELD_COUNT),
        ("700001,10001", WRONG_FIELD_COUNT),
        (SALE.replace("700001", "", 1), BAD_INVOICE_NUMBER),
        (SALE.replace(",10001,", ",,"), BAD_STOCK_CODE),
        (SALE.replace(",10001,", ",10/001,"), BAD_STOCK_CODE),
        (SALE.replace(",6,", ",six,"), BAD_QUANTITY),
        (SALE.replace(",6,", ",0,"), BAD_QUANTITY),
        (SALE.replace(",6,", ",1.5,"), BAD_QUANTITY),
        (SALE.replace(",6,", ",1000001,"), BAD_QUANTITY),
        (SALE.replace("2.55", "two"), BAD_PRICE),
        (SALE.replace("2.55", "NaN"), BAD_PRICE),
        (SALE.replace("2.55", "1_0"), BAD_PRICE),
        (SALE.replace("2.55", "-2.55"), BAD_PRICE),
        (SALE.replace("2.55", ""), BAD_PRICE),
        (SALE.replace("2.55", "2.555"), TOO_MANY_DECIMALS),
        (SALE.replace("2.55", "0.001"), TOO_MANY_DECIMALS),
        (SALE.replace("2011-03-01", "2011-02-30"), BAD_DATE),
        (SALE.replace("2011-03-01 08:05:00", "yesterday"), BAD_DATE),
        (SALE.replace("20001.0", "a b"), BAD_CUSTOMER),
        (SALE.replace(",10001,", ",BANK CHARGES,"), NOT_GOODS),
        (SALE.replace(",10001,", ",C2,"), NOT_GOODS),
        (SALE.replace(",10001,", ",gift_0001_20,"), NOT_GOODS),
        (SALE.replace(",6,", ",-6,"), STOCK_ADJUSTMENT),
        (SALE.replace("2.55,20001.0", "0,"), STOCK_ADJUSTMENT),
        (SALE.replace("2.55", "0.00"), ZERO_PRICE),
        ("C" + SALE, POSITIVE_RETURN),
    ],
)
def test_a_line_that_breaks_a_rule_is_refused_by_that_rule_and_hurts_no_other(line: str, reason: str) -> None:
    found = read(SALE, line, SALE)
    assert [(refusal.number, refusal.reason) for refusal in found.refusals] == [(3, reason)]
    assert len(found.sales) == 2
    assert found.is_accounted_for


def test_what_is_empty_at_the_end_of_a_row_may_be_left_out() -> None:
    """As exports do that write no separator behind the last value: what is needed is there, so the line is used."""
    short = SALE.removesuffix(",United Kingdom")
    found = read(SALE, short, SALE)
    assert not found.refusals
    assert found.is_accounted_for
    assert [line.country for line in found.sales] == ["United Kingdom", "", "United Kingdom"]
    quoted = read(SALE, short.replace("TIN LANTERN", '"TIN, LANTERN"'), SALE)
    assert not quoted.refusals
    assert len(quoted.sales) == 3
    cut = read(SALE, short.rsplit(",", 1)[0], SALE)
    assert [(refusal.number, refusal.reason) for refusal in cut.refusals] == [(3, WRONG_FIELD_COUNT)], (
        "the customer is needed"
    )


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_last_line_that_may_be_cut_off_has_all_its_fields(end: str) -> None:
    """Of `17850,United Kingdom` a file that broke off may hold `178`: that is somebody else."""
    found = classify_file("cut.csv", ("\n".join((HEADER, SALE, SALE.partition("01.0,")[0])) + end).encode())
    assert [refusal.reason for refusal in found.refusals] == ([] if end else [WRONG_FIELD_COUNT])


@pytest.mark.parametrize(
    ("text", "pence"),
    [("2.55", 255), ("0.07", 7), (".5", 50), ("3", 300), ("1.10000", 110), ("8142.75", 814275), ("+1.25", 125)],
)
def test_prices_become_pence_exactly(text: str, pence: int) -> None:
    assert read(SALE.replace("2.55", text)).sales[0].price == pence


def test_codes_customers_and_dates_are_read_in_their_usual_forms() -> None:
    line = read(" 700001 , 85123a ,X, 6.0 ,12/1/2010 8:26,2.55,17850.0,Eire").sales[0]
    assert (line.invoice, line.sku, line.quantity, line.customer, line.time.isoformat()) == (
        "700001",
        "85123A",
        6,
        "17850",
        "2010-12-01T08:26:00+00:00",
    )
    assert read(SALE.replace("20001.0", "")).sales[0].customer is None


def test_byte_order_marks_line_ends_encodings_and_column_order_do_not_matter() -> None:
    plain = read(SALE).sales
    assert read(SALE, encoding="utf-8-sig", end="\r\n").sales == plain
    assert read(SALE, encoding="utf-16").sales == plain
    assert classify_file("x", "\n".join((HEADER, SALE)).encode()).sales == plain
    swapped = f"{HEADER.replace('InvoiceNo,', '')},INVOICENO,Extra\n{SALE.removeprefix('700001,')},700001,?\n"
    assert classify_file("x", swapped.encode()).sales == plain
    latin = read(SALE.replace("TIN", "CAFÉ £"), encoding="latin-1")
    assert (latin.encoding, latin.sales[0].description) == ("windows-1252", "CAFÉ £ LANTERN")


def test_a_quoted_description_may_hold_commas_quotes_and_a_line_break() -> None:
    found = read(SALE.replace("TIN LANTERN", '"TIN, ""BIG""\nLANTERN"'), SALE)
    assert [(line.number, line.description) for line in found.sales] == [(2, 'TIN, "BIG" LANTERN'), (4, "TIN LANTERN")]
    assert (found.line_count, found.continuation_count) == (3, 1)
    assert found.is_accounted_for


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (
            b"InvoiceNo,StockCode\n",
            "lacks Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country; it has InvoiceNo, StockCode",
        ),
        (HEADER.replace(",", ":").encode(), r"lacks InvoiceNo.*--delimiter"),
        (b"\x00\x01\x02", "lacks InvoiceNo"),
    ],
)
def test_a_file_that_is_no_invoice_list_is_refused_with_what_it_lacks(content: bytes, words: str) -> None:
    with pytest.raises(NotAnInvoiceFile, match=words):
        classify_file("x.csv", content)


def test_a_file_with_a_header_alone_has_no_lines() -> None:
    assert classify_file("x.csv", HEADER.encode()).line_count == 0


FIELD = st.one_of(
    st.sampled_from(
        [
            "700001",
            "C700001",
            "10001",
            "POST",
            "X",
            "-6",
            "6",
            "2011-03-01 08:05:00",
            "2.55",
            "0",
            "",
            "20001.0",
            '"',
            "\r",
            "\x00",
        ]
    ),
    st.text(),
)


@given(
    st.lists(
        st.one_of(
            st.text(),
            st.lists(FIELD, min_size=8, max_size=8).map(",".join),
            st.just(SALE),
            st.just("C" + SALE.replace(",6,", ",-6,")),
        )
    )
)
@example(['"', "a", '"'])
@example(["\x1c", "\x85", "\u2028"])
def test_lines_read_are_lines_used_and_refused_for_any_text(lines: list[str]) -> None:
    text = "\n".join((HEADER, *lines))
    found = classify_file("any.csv", text.encode("utf-8", errors="replace"))
    assert found.is_accounted_for
    assert found.line_count == len(found.sales) + len(found.returns) + len(found.refusals) + found.continuation_count
    if '"' not in text:
        assert (
            found.line_count == len(text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")) - 1
        )


@given(st.binary())
def test_any_bytes_are_read_or_refused_as_a_whole(content: bytes) -> None:
    try:
        assert classify_file("any.csv", content).is_accounted_for
    except NotAnInvoiceFile as error:
        refusal = str(error)
        assert refusal
