"""Tables of given columns and rows."""

import pytest

from judges.instructions.custom_csv import CITY, KINDS, PRODUCT, STUDENT

CITIES = "\n".join([",".join(CITY), *(f"{number},France,Paris,200{number},{number * 9}" for number in range(7))])
PRODUCTS = "\n".join([",".join(PRODUCT), *(f"{number},Tools,Plain,9,{number}" for number in range(14))])
SPECIAL = PRODUCTS.replace("3,Tools,Plain", '3,Tools,"Nuts & Bolts"')
STUDENTS = "\n".join("\t".join(f'"{cell}"' for cell in row) for row in [STUDENT, *[("7", "Art", "A", "1", "90")] * 3])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("csv_city", f"{CITIES}\n", id="cities"),
        pytest.param("csv_city", f"```csv\n{CITIES.replace(',', ', ')}\n```", id="cities-fenced"),
        pytest.param("csv_city", CITIES.replace("France", '"Congo, Republic"'), id="cities-comma-in-quotes"),
        pytest.param("csv_special_character", SPECIAL, id="products"),
        pytest.param("csv_special_character", SPECIAL.replace("Nuts & Bolts", 'A, ""B""'), id="products-quotes"),
        pytest.param("csv_quotes", STUDENTS, id="students"),
        pytest.param("csv_quotes", f"```\n{STUDENTS.replace('Art', 'Art, old')}\n```\n", id="students-fenced"),
    ],
)
def test_table_as_asked_passes(kind: str, text: str) -> None:
    assert KINDS[f"custom:{kind}"](text) is True


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("csv_city", f"{CITIES}\n7,France,Paris,2007,63", id="cities-eight"),
        pytest.param("csv_city", CITIES.replace("3,France,", "3,"), id="cities-cell-lost"),
        pytest.param("csv_city", CITIES.replace("Country,City", "City,Country", 1), id="cities-columns"),
        pytest.param("csv_city", f"Here:\n{CITIES}", id="cities-words"),
        pytest.param("csv_city", CITIES.replace("3,France", '3,"France', 1), id="cities-quote-open"),
        pytest.param("csv_special_character", PRODUCTS, id="products-nothing-special"),
        pytest.param("csv_special_character", SPECIAL.replace('"', ""), id="products-not-quoted"),
        pytest.param("csv_special_character", SPECIAL.replace(" & ", " "), id="products-quoted-plain"),
        pytest.param("csv_special_character", SPECIAL.rpartition("\n")[0], id="products-thirteen"),
        pytest.param("csv_quotes", STUDENTS.replace('"Art"', "Art", 1), id="students-one-bare"),
        pytest.param("csv_quotes", STUDENTS.replace("\t", ","), id="students-commas"),
        pytest.param("csv_quotes", STUDENTS.replace('"StudentID"', "StudentID"), id="students-header-bare"),
    ],
)
def test_table_near_miss_fails(kind: str, text: str) -> None:
    assert KINDS[f"custom:{kind}"](text) is False
