"""Search finds what is meant, whichever accents and letters the searcher's keyboard has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.catalog.model import fold_accents
from tests.services.catalog.conftest import CatalogAdmin

LETTERS = "CrèmeBrûléeŁódźSmørrebrødßẞÆæŒœÞþĐđıİŠčñÅÄÖãéÉёЙйがパ한국어ﬁＡ½ǅẴςΣσحَلِيبأـקָפֶהשׁ\u0301\u0323\u0489"


@pytest.mark.parametrize(
    ("name", "searches"),
    [
        (
            "Crème Brûlée",
            [
                "creme brulee",
                "CRÈME BRÛLÉE",
                "Creme",
                "brulee -kettle",
                '"creme brulee"',
                "cre",
                "cre\u0300me bru\u0302le\u0301e",
            ],
        ),
        ("Fliederbeere Straße", ["strasse", "STRASSE", "straße", "stras"]),
        ("Łódź tea", ["lodz", "łódź", "ŁÓDŹ", "lod"]),
        ("Smørrebrød board", ["smorrebrod", "smørrebrød", "SMØRREBRØD"]),
        ("Jalapeno sauce", ["jalapeño", "JALAPEÑO"]),
        ("Œuvre Ægir", ["oeuvre", "aegir", "Œuvre ÆGIR"]),
        ("Кружка чёрная", ["кружка", "КРУЖКА", "черная"]),
        ("Ελληνικός καφές", ["ελληνικος", "ΕΛΛΗΝΙΚΟΣ", "καφες", "ΚΑΦΕΣ", "καφές"]),
        ("حَلِيب طازج", ["حليب", "حَلِيب", "طازج"]),
        ("קָפֶה שָׁחֹר", ["קפה", "שחר", "קָפֶה"]),
        ("Ｆｕｌｌ width", ["full", "Ｆｕｌｌ"]),
    ],
)
async def test_a_product_is_found_with_and_without_accents(
    catalog_admin: CatalogAdmin, name: str, searches: list[str]
) -> None:
    sku = await catalog_admin.made(name=name)
    for search in searches:
        answer = await catalog_admin.shop.client.get("/v1/products", params={"search": search})
        assert sku in [item["sku"] for item in answer.json()["items"]], search


@pytest.mark.parametrize("search", ["\uff0d" * 40, "\uff02" * 41, "\u0301" * 50, "\uff5c\uff06\uff01" * 20])
async def test_signs_that_fold_to_operators_are_no_operators(catalog_admin: CatalogAdmin, search: str) -> None:
    assert (await catalog_admin.shop.client.get("/v1/products", params={"search": search})).status_code == 200


async def test_the_database_folds_as_the_program_does(catalog_admin: CatalogAdmin) -> None:
    texts: list[str] = []

    @settings(max_examples=300, derandomize=True, database=None)
    @given(
        st.one_of(st.text(LETTERS), st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs", "Cn"])))
    )
    def gather(text: str) -> None:
        texts.append(text)

    gather()
    rows = await catalog_admin.shop.get_database("catalog").fetch(
        "SELECT given, folded(given) AS got FROM unnest($1::text[]) AS t(given)", texts
    )
    assert [(row["given"], row["got"]) for row in rows if row["got"] != fold_accents(row["given"])] == []
