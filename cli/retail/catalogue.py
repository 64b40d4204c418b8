"""What the sales of invoice files say about the shop: its products with one price each, its customers, and the stock
that the sales need.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.retail.conventions import DEFAULT_CURRENCY
from cli.retail.lines import InvoiceFile, SalesLine

EMAIL_DOMAIN = "retail.example"

CATEGORIES: tuple[tuple[str, frozenset[str]], ...] = (
    ("christmas", frozenset({"CHRISTMAS", "XMAS", "ADVENT", "REINDEER", "SNOWFLAKE", "SNOWMAN", "SANTA"})),
    ("bags", frozenset({"BAG", "BAGS", "SHOPPER", "PURSE", "LUGGAGE", "SATCHEL"})),
    (
        "lights",
        frozenset(
            {
                "LIGHT",
                "LIGHTS",
                "T-LIGHT",
                "T-LIGHTS",
                "CANDLE",
                "CANDLES",
                "LANTERN",
                "LAMP",
                "CANDLESTICK",
                "CANDLEHOLDER",
            }
        ),
    ),
    (
        "kitchen",
        frozenset(
            {
                "MUG",
                "MUGS",
                "CUP",
                "CUPS",
                "PLATE",
                "BOWL",
                "TEA",
                "TEAPOT",
                "JAR",
                "JAM",
                "CAKE",
                "CAKESTAND",
                "LUNCH",
                "BOTTLE",
                "APRON",
            }
        ),
    ),
    (
        "stationery",
        frozenset(
            {"CARD", "CARDS", "WRAP", "PAPER", "NOTEBOOK", "PENCIL", "PENCILS", "PEN", "STICKERS", "RIBBONS", "TISSUES"}
        ),
    ),
    ("jewellery", frozenset({"NECKLACE", "BRACELET", "EARRINGS", "RING", "BROOCH", "HAIRCLIP"})),
    (
        "toys",
        frozenset({"TOY", "TOYS", "GAME", "GAMES", "DOLL", "PLAYHOUSE", "JIGSAW", "PUZZLE", "CHILDREN'S", "CHILDRENS"}),
    ),
    ("garden", frozenset({"GARDEN", "PLANT", "PLANTER", "FLOWER", "FLOWERS", "BIRD", "HERB"})),
    (
        "home",
        frozenset(
            {
                "CUSHION",
                "CLOCK",
                "FRAME",
                "MIRROR",
                "HOOK",
                "DOORMAT",
                "SIGN",
                "DRAWER",
                "CABINET",
                "RUG",
                "WARMER",
                "BOX",
                "TIN",
                "BASKET",
            }
        ),
    ),
)
OTHER_CATEGORY = "gifts"


@dataclass(frozen=True, slots=True)
class Product:
    sku: str
    name: str
    category: str
    price: int
    """In minor units."""


@dataclass(frozen=True, slots=True)
class Customer:
    """`key` is the customer's number in the files, or `guest-<invoice>`: each invoice of a guest is a customer of its
    own.
    """

    key: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`repriced` lines cost something else in the files than in the catalogue; `difference` is what the catalogue makes
    of them less what the files say, in minor units.
    """

    products: dict[str, Product]
    customers: dict[str, Customer]
    repriced_lines: int
    price_difference: int
    currency: str = DEFAULT_CURRENCY


def build_customer(line: SalesLine) -> Customer:
    if line.customer is None:
        guest = normalize_key(line.invoice)
        return Customer(f"guest-{guest}".lower(), f"guest-{guest}@{EMAIL_DOMAIN}".lower(), f"Guest {guest}")
    key = normalize_key(line.customer)
    return Customer(key, f"customer-{key}@{EMAIL_DOMAIN}", f"Customer {key}")


def normalize_key(text: str) -> str:
    """A number or address of the file as part of addresses and keys: what they could not hold is replaced, and a digest
    keeps it apart from others.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", text):
        return text
    return f"{re.sub('[^A-Za-z0-9]+', '-', text).strip('-')[:24]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def build_catalogue(files: Sequence[InvoiceFile]) -> Catalogue:
    """Of files in one currency."""
    sales = [line for file in files for line in file.sales]
    descriptions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    prices: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in sales:
        prices[line.sku][line.price] += 1
        descriptions[line.sku].update([line.description] if line.description else [])
    products = {sku: _build_product(sku, descriptions[sku], prices[sku]) for sku in sorted(prices)}
    price_changes = [products[line.sku].price - line.price for line in sales], [line.quantity for line in sales]
    customers = {customer.key: customer for customer in map(build_customer, sales)}
    return Catalogue(
        products,
        customers,
        sum(each != 0 for each in price_changes[0]),
        sum(each * quantity for each, quantity in zip(*price_changes, strict=True)),
        files[0].currency if files else DEFAULT_CURRENCY,
    )


def _build_product(sku: str, descriptions: Mapping[str, int], prices: Mapping[int, int]) -> Product:
    """The name and the price that most lines have; of equally frequent ones the first in the alphabet, and the
    lowest.
    """
    name = min(descriptions, key=lambda text: (-descriptions[text], text), default=sku)
    return Product(sku, name, choose_category(name), min(prices, key=lambda price: (-prices[price], price)))


def choose_category(name: str) -> str:
    """The first category, in the order of the table, that has a word of the name."""
    words = set(name.upper().replace(",", " ").replace(".", " ").split())
    return next((label for label, members in CATEGORIES if words & members), OTHER_CATEGORY)


def sum_stock_needed(file: InvoiceFile) -> dict[str, int]:
    """Units of each sku that the sales of one file take."""
    units_by_sku: Counter[str] = Counter()
    for line in file.sales:
        units_by_sku[line.sku] += line.quantity
    return dict(sorted(units_by_sku.items()))
