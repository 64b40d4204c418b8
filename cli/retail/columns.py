"""Which column of an invoice file holds what: the names that the known exports give them, or the names that the user
gives.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    field: tuple(names.split())
    for field, names in {
        "invoice": """
            invoiceno invoice invoicenumber amazonorderid invoiceid orderid orderno ordernumber order incrementid
            receipt receiptno documentno rechnungsnummer rechnungsnr rechnung belegnummer belegnr bestellnummer
            bestellnr auftragsnummer auftragsnr numerodefacture nfacture facture numerodecommande commande
            numerodefactura factura pedido numerofattura fattura ordine factuurnummer factuur bestelnummer numerfaktury
            faktura""",
        "sku": """
            stockcode sku lineitemsku itemsku productcode productsku productid itemcode itemno itemnumber articleno
            articlenumber article artikelnummer artikelnr artikel artnr reference ref referencia codigo codicearticolo
            codice artikelcode""",
        "description": """
            description productname itemname lineitemname product item title producttitle name bezeichnung
            artikelbezeichnung artikelname beschreibung produkt designation libelle descripcion descrizione omschrijving
            nazwa""",
        "quantity": """
            quantity qty lineitemquantity quantitypurchased qtyordered units menge anzahl stuck stueck quantite qte
            cantidad quantita aantal ilosc""",
        "date": """
            invoicedate date orderdate createdat purchasedate datetime timestamp invoicedatetime saledate solddate datum
            rechnungsdatum belegdatum bestelldatum datefacture datedefacture fecha data factuurdatum""",
        "price": """
            unitprice price lineitemprice itemprice unitcost itemcost priceperunit einzelpreis stuckpreis stueckpreis
            preis prixunitaire prix preciounitario precio prezzounitario prezzo stukprijs prijs cena""",
        "customer": """
            customerid customer customerno customernumber customeruserid customeremail email buyeremail billingemail
            emailbilling clientid kundennummer kundennr kdnr kunde numeroclient codeclient client idcliente
            codicecliente cliente klantnummer klant klient""",
        "country": """
            country shippingcountry billingcountry shipcountry countrycode countrycodebilling countrycodeshipping land
            lieferland pays pais paese kraj""",
        "currency": "currency currencycode wahrung waehrung devise moneda valuta waluta",
    }.items()
}
DISPLAY_NAMES = dict(
    zip(
        KNOWN_NAMES,
        (
            "InvoiceNo",
            "StockCode",
            "Description",
            "Quantity",
            "InvoiceDate",
            "UnitPrice",
            "CustomerID",
            "Country",
            "Currency",
        ),
        strict=True,
    )
)
"""How errors name a column: as the Online Retail set does."""
OPTIONAL_COLUMNS = frozenset({"description", "country", "currency"})
NO_COLUMN = "none"
"""`--column customer=none`: the file has no such column."""
_UNIT = re.compile(r"[(\[][^)\]]*[)\]]|(?:\bin\s+)?(?:\b(?:GBP|EUR|USD|CHF)\b|[£€$¥])")
MAX_HEADER_LENGTH = 200
"""Characters of a header that are looked at."""


def simplify_name(name: str) -> str:
    """Without case, accents, spaces, signs and what stands in brackets: `Prix unitaire (€)` is `prixunitaire`."""
    simple_name = unicodedata.normalize("NFKD", _UNIT.sub(" ", name[:MAX_HEADER_LENGTH]).casefold())
    return re.sub(r"[^a-z0-9]", "", simple_name)


def locate_columns(header: Sequence[str], given_headers: Mapping[str, str]) -> dict[str, int]:
    """The index of each column that is found. The first of the known names that the header has counts, each column
    once.
    """
    names = [simplify_name(name) for name in header]
    indices: dict[str, int] = {}
    for field in KNOWN_NAMES:
        if field in given_headers:
            candidates = (
                [given_headers[field]] if given_headers[field] in header else [simplify_name(given_headers[field])]
            )
            index = next(
                (at for at, name in enumerate(names) if name and (name in candidates or header[at] in candidates)), None
            )
        else:
            free_names = [name if at not in indices.values() else "" for at, name in enumerate(names)]
            index = next(
                (free_names.index(name) for name in _list_known_names(field, names) if name in free_names), None
            )
        if index is not None:
            indices[field] = index
    return indices


def _list_known_names(field: str, names: Sequence[str]) -> Sequence[str]:
    """Of a field, the likeliest first, in a file with these names."""
    known_names = KNOWN_NAMES[field]
    if field == "invoice" and "lineitemname" in names:  # an export that calls its orders by a name
        known_names = ("name", *known_names)
    if "amazonorderid" in names:  # its `item-price` is the sum of the line
        known_names = tuple(name for name in known_names if name != "itemprice")
    return known_names


def find_missing(indices: Mapping[str, int], given_headers: Mapping[str, str]) -> list[str]:
    """What the file lacks, as errors name it; empty when an invoice file can do without."""
    absent = [field for field in KNOWN_NAMES if field not in indices]
    optional_columns = {
        field for field, name in given_headers.items() if name.casefold() == NO_COLUMN and field == "customer"
    } | OPTIONAL_COLUMNS
    if set(absent) <= optional_columns:
        return []
    return [DISPLAY_NAMES[field] for field in absent if field != "currency"]
