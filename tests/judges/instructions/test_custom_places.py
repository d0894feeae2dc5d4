"""Countries from Z to A, capitals from north to south."""

import pytest

from judges.instructions.custom_places import CAPITALS, COUNTRIES, KINDS

COUNTRY_LINES = sorted((names[0].title() for names in COUNTRIES), reverse=True)
COUNTRY_LIST = "\n".join(COUNTRY_LINES)
CAPITAL_LIST = ", ".join(CAPITALS).title()


def test_the_facts_are_complete_and_said_once() -> None:
    names = [name for names in COUNTRIES for name in names]
    assert (len(COUNTRIES), len(set(names))) == (54, len(names))
    assert (len(CAPITALS), len(set(CAPITALS))) == (28, 28)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("reverse_newline", COUNTRY_LIST, id="countries"),
        pytest.param(
            "reverse_newline",
            "Here they are:\n\n"
            + "\n".join(f"{number}. {name}" for number, name in enumerate(COUNTRY_LINES, 1))
            .replace("Gambia", "The Gambia")
            .replace("Eswatini", "**Eswatini** (formerly Swaziland)")
            .replace("Sao Tome", "São Tomé"),
            id="countries-numbered",
        ),
        pytest.param("reverse_newline", COUNTRY_LIST.replace("Uganda", "Western Sahara\nUganda"), id="disputed"),
        pytest.param("european_capitals_sort", CAPITAL_LIST, id="capitals"),
        pytest.param(
            "european_capitals_sort",
            CAPITAL_LIST.replace("Kyiv", "Kiev").replace("Chisinau", "Chișinău").replace(", ", ",") + ".\n",
            id="capitals-spelled",
        ),
    ],
)
def test_places_as_asked_pass(kind: str, text: str) -> None:
    assert KINDS[f"custom:{kind}"](text) is True


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("reverse_newline", COUNTRY_LIST.replace("\nMali", ""), id="countries-one-less"),
        pytest.param("reverse_newline", COUNTRY_LIST.replace("Mali\nMalawi", "Malawi\nMali"), id="countries-swapped"),
        pytest.param("reverse_newline", "\n".join(reversed(COUNTRY_LINES)), id="countries-forward"),
        pytest.param("reverse_newline", COUNTRY_LIST.replace("\n", ", "), id="countries-commas"),
        pytest.param("reverse_newline", COUNTRY_LIST.replace("Mali\n", "Mallorca\n"), id="countries-island"),
        pytest.param("european_capitals_sort", CAPITAL_LIST.replace(" Kyiv,", ""), id="capitals-one-less"),
        pytest.param("european_capitals_sort", CAPITAL_LIST.replace("Bern", "Belgrade"), id="capitals-south"),
        pytest.param("european_capitals_sort", f"The capitals: {CAPITAL_LIST}", id="capitals-words"),
        pytest.param(
            "european_capitals_sort", CAPITAL_LIST.replace("Helsinki, Oslo", "Oslo, Helsinki"), id="capitals-swapped"
        ),
    ],
)
def test_places_near_miss_fails(kind: str, text: str) -> None:
    assert KINDS[f"custom:{kind}"](text) is False
