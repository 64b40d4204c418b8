"""The forms in which shops of this world write dates, amounts and names; what can't be read for certain is refused,
never guessed.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.text import TextLine
from cli.retail.catalogue import build_catalogue
from cli.retail.conventions import ReadingOptions
from cli.retail.lines import classify_file
from cli.retail.reader import NotAnInvoiceFile
from cli.retail.timestamps import DateOrder, detect_date_order, parse_timestamp
from cli.retail.values import Decimals, detect_currencies, detect_decimals, parse_number

HEADER = "Invoice;SKU;Description;Qty;Date;Price;Customer;Country"


def file(*rows: str, header: str = HEADER, options: ReadingOptions | None = None):  # type: ignore[no-untyped-def]
    return classify_file("file.csv", "\n".join([header, *rows]).encode(), options)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("3. März 2024", "2024-03-03"),
        ("1. Dezember 2024", "2024-12-01"),
        ("5. Jänner 2024", "2024-01-05"),
        ("Mo., 23.12.2024", "2024-12-23"),
        ("Sonntag, 1. September 2024", "2024-09-01"),
        ("24.12.24, 15:30 Uhr", "2024-12-24 15:30"),
        ("1. Mai 2024 um 14 Uhr", "2024-05-01 14:00"),
        ("1er août 2024", "2024-08-01"),
        ("2 août 2024 à 14h30", "2024-08-02 14:30"),
        ("lundi 15 juillet 2024", "2024-07-15"),
        ("mar. 14 mai 2024", "2024-05-14"),
        ("15 févr. 2024 14h", "2024-02-15 14:00"),
        ("3 de marzo de 2024", "2024-03-03"),
        ("15/ene/2024", "2024-01-15"),
        ("15-sept-2024 3:05:00 p. m.", "2024-09-15 15:05"),
        ("13-May-24", "2024-05-13"),
        ("13MAY2024", "2024-05-13"),
        ("2024-May-13", "2024-05-13"),
        ("mar 13 2024", "2024-03-13"),
        ("May 13, 2024, 1:05:06 PM PDT", "2024-05-13 20:05:06"),
        ("Jan 3, 2024 10:15:20 PM PST", "2024-01-04 06:15:20"),
        ("Mon, 13 May 2024 10:00:00 +0000", "2024-05-13 10:00"),
        ("Mon May 13 2024 10:00:00 GMT+0200 (Central European Summer Time)", "2024-05-13 08:00"),
        ("Mon May 13 10:00:00 2024", "2024-05-13 10:00"),
        ("2024-05-01T10:00:00+02", "2024-05-01 08:00"),
        ("2024-05-01T10:00+02:00[Europe/Zurich]", "2024-05-01 08:00"),
        ("2024-05-01 10:00 Europe/Zurich", "2024-05-01 08:00"),
        ("20240501T100000Z", "2024-05-01 10:00"),
        ("2024年5月1日", "2024-05-01"),
        ("2024년 5월 1일 10:00", "2024-05-01 10:00"),
        ("２０２４/05/01", "2024-05-01"),
        ("45413", "2024-05-01"),
        ("45413.604166667", "2024-05-01 14:30"),
        ("45413,5", "2024-05-01 12:00"),
        ("1714557600", "2024-05-01 10:00"),
        ("1714557600000", "2024-05-01 10:00"),
    ],
)
def test_dates_that_tell_their_day_themselves_are_read_in_either_order(text: str, moment: str) -> None:
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert parse_timestamp(text, "day-first") == expected
    if detect_date_order(text) != "day-first":
        assert parse_timestamp(text, "month-first") == expected


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01 10:00 Europe/Nowhere",
        "2024-05-01 10:00 XYZ",
        "13 Foo 2024",
        "24135",
        "99999",
        "1714",
        "29. Februar 2023",
        "13:05 PM 2024",
        "2024-05-01 25:00",
        "0 May 2024",
        "1 May 2024" + " " * 100_000 + "x",
    ],
)
def test_what_is_no_date_for_certain_is_none(text: str) -> None:
    assert parse_timestamp(text, "day-first") is None
    assert parse_timestamp(text, "month-first") is None


@pytest.mark.parametrize(
    ("text", "decimals", "number"),
    [
        ("₹1,23,456.50", "point", "123456.50"),
        ("INR 12,34,567.00", "point", "1234567"),
        ("Rs. 1,234.00", "point", "1234"),
        ("Rs.99.50", "point", "99.50"),
        ("99/-", "point", "99"),
        ("Fr. 1’234.50", "point", "1234.50"),
        ("SFr 12.–", "point", "12"),
        ("12,-- €", "comma", "12"),
        ("1\u202f234,50\u00a0€", "comma", "1234.50"),
        ("US$12.50", "point", "12.50"),
        ("R$ 1.234,50", "comma", "1234.50"),
        ("1.234,50 Kč", "comma", "1234.50"),
        ("1 234,50 kr.", "comma", "1234.50"),
        ("1250円", "point", "1250"),
        ("￥１２５０", "point", "1250"),
        ("-£12.50", "point", "-12.50"),
        ("£-12.50", "point", "-12.50"),
        ("(£12.50)", "point", "-12.50"),
        ("12.50- GBP", "point", "-12.50"),
        ("£12.50-", "point", "-12.50"),
        ("1,2,3", "point", None),
        ("12,34", "point", None),
        ("12.50 VAT", "point", None),
        ("1.25E+1", "point", None),
        ("££12", "point", None),
        ("£" + " " * 100_000 + "x", "point", None),
    ],
)
def test_amounts_are_read_with_every_usual_sign_and_grouping(text: str, decimals: Decimals, number: str | None) -> None:
    assert parse_number(text, decimals, money=True) == (None if number is None else Decimal(number))


def test_a_quantity_has_no_unit() -> None:
    """Five dozen are not five."""
    assert [parse_number(text, "point") for text in ("5 DOZ", "2 pcs", "£2", "3 ALL")] == [None] * 4
    found = file("1;A;Egg;5 DOZ;2024-05-01;1.50;7;GB", "2;A;Egg;5;2024-05-01;1.50;7;GB")
    assert [line.quantity for line in found.sales] == [5]
    assert found.refusals[0].reason == "bad quantity"


@given(st.text(max_size=40), st.sampled_from(["day-first", "month-first"]))
def test_no_text_is_an_error_of_the_reader(text: str, order: DateOrder) -> None:
    parse_timestamp(text, order)
    detect_date_order(text)
    detect_currencies(text)
    detect_decimals(text, money=True)
    parse_number(text, "point", money=True)
    parse_number(text, "comma")


@pytest.mark.parametrize(
    ("sign", "code"), [("$", "CAD"), ("$", "MXN"), ("¥", "CNY"), ("£", "EGP"), ("kr", "NOK"), ("Fr.", "CHF")]
)
def test_a_sign_of_several_currencies_may_mean_the_one_that_the_user_names(sign: str, code: str) -> None:
    rows = [f"{n};A;Cup;1;2024-05-01;{sign}12.50;7;X" for n in range(3)]
    found = file(*rows, options=ReadingOptions(currency=code))
    assert (len(found.sales), found.currency) == (3, code), found.refusals
    column = file(*[f"{row};{code}" for row in rows], header=HEADER + ";Currency")
    assert (len(column.sales), column.currency) == (3, code), column.refusals


def test_a_sign_that_nobody_can_tell_is_asked_for() -> None:
    with pytest.raises(NotAnInvoiceFile, match=r"kr, which may be SEK, NOK, DKK, ISK; say which: --currency"):
        file("1;A;Cup;1;2024-05-01;12,50 kr;7;SE")


def test_a_currency_may_stand_in_the_header_of_the_prices() -> None:
    for name, code in (("Einzelpreis in €", "EUR"), ("Price (CHF)", "CHF"), ("Unit Price USD", "USD")):
        found = file("1;A;Cup;1;2024-05-01;12.50;7;X", header=HEADER.replace("Price", name))
        assert found.currency == code


def test_the_report_says_that_numbers_were_taken_for_days() -> None:
    found = file("1;A;Cup;1;45413,5;12,50;7;X", "2;A;Cup;1;45414;12,50;7;X")
    assert found.layout is not None
    (note,) = [note for note in found.layout.assumptions if note.subject == "dates that are numbers"]
    assert (note.reading, len(found.sales)) == ("2", 2)
    assert "spreadsheet" in note.reason


def test_a_line_total_is_not_taken_for_a_unit_price() -> None:
    """The marketplace writes the sum of the line into `item-price`."""
    header = "amazon-order-id\tpurchase-date\tsku\tproduct-name\tquantity\titem-price\tship-country\tbuyer-email"
    with pytest.raises(NotAnInvoiceFile, match="lacks UnitPrice"):
        file("202-1-1\t2024-05-01T10:00:00+00:00\tA\tCup\t2\t25.00\tGB\tx@y.example", header=header)


@pytest.mark.parametrize(
    "name",
    ["Cup\u200b \u202eblue\u202c", "\u00adCup\u2060", "\ufeffCup", "Cup\x00\x1b[31m", "\u200b\u200e", "क़" * 200],
)
def test_names_of_products_hold_nothing_that_the_shop_refuses(name: str) -> None:
    product = build_catalogue([file(f"1;A;{name};1;2024-05-01;12.50;7;X")]).products["A"]
    assert TextLine(200).normalize_text(product.name) == product.name
    assert product.name


@pytest.mark.parametrize(
    "address",
    ["m.o'hara+7@example.com", "josé@example.com", "anna@müller.example", "用户@例子.公司", "Ada@Example.COM"],
)
def test_a_customer_may_be_any_address_that_the_shop_takes(address: str) -> None:
    found = file(f"1;A;Cup;1;2024-05-01;12.50;{address};X")
    assert [line.customer for line in found.sales] == [address.lower()], found.refusals
