"""IFBench, `custom:*`, the lists of places, with the facts that they are checked by."""

import re
from collections.abc import Mapping
from itertools import pairwise

from judges.instructions.english import folded
from judges.instructions.reading import Check, lines

CAPITALS = (
    *("reykjavik", "helsinki", "oslo", "tallinn", "stockholm", "riga", "moscow", "copenhagen", "vilnius", "minsk"),
    *("dublin", "berlin", "amsterdam", "warsaw", "london", "brussels", "kyiv", "prague", "luxembourg", "paris"),
    *("vienna", "bratislava", "budapest", "vaduz", "chisinau", "bern", "ljubljana", "zagreb"),
)
"""Of the European countries, those above 45 degrees north, from north to south."""

_CAPITALS_ALIASES = {"kiev": "kyiv", "berne": "bern", "luxembourg city": "luxembourg"}

COUNTRIES: tuple[tuple[str, ...], ...] = (
    *(("zimbabwe",), ("zambia",), ("uganda",), ("tunisia",), ("togo",), ("south sudan",), ("south africa",)),
    *(("tanzania", "united republic of tanzania"), ("eswatini", "swaziland", "eswatini swaziland"), ("sudan",)),
    *(("somalia",), ("sierra leone",), ("seychelles",), ("senegal",), ("rwanda",), ("nigeria",), ("niger",)),
    *(("sao tome and principe", "sao tome principe"), ("namibia",), ("mozambique",), ("morocco",), ("mauritius",)),
    *(("mauritania",), ("mali",), ("malawi",), ("madagascar",), ("libya",), ("liberia",), ("lesotho",), ("kenya",)),
    *(("ivory coast", "cote d ivoire"), ("guinea bissau",), ("guinea",), ("ghana",), ("gambia",), ("gabon",)),
    *(("ethiopia",), ("eritrea",), ("equatorial guinea",), ("egypt",), ("djibouti",), ("comoros",), ("chad",)),
    (
        *("democratic republic of the congo", "democratic republic of congo", "congo democratic republic of the"),
        *(
            "congo democratic republic of",
            "congo democratic republic",
            "congo kinshasa",
            "congo drc",
            "dr congo",
            "drc",
        ),
    ),
    (
        *("republic of the congo", "republic of congo", "congo republic of the", "congo republic of"),
        *("congo republic", "congo brazzaville", "congo congo brazzaville", "congo"),
    ),
    *(("central african republic",), ("cape verde", "cabo verde"), ("cameroon",), ("burundi",), ("burkina faso",)),
    *(("botswana",), ("benin",), ("angola",), ("algeria",)),
)
"""The 54 of Africa, each with the names that it goes by."""

_COUNTRY_OF = {name: names[0] for names in COUNTRIES for name in names}
_DISPUTED = {"western sahara", "sahrawi arab democratic republic", "somaliland"}


def reverse_newline(text: str) -> bool:
    """The countries of Africa, each on its line, from Z to A; only an introduction may stand before them."""
    found = lines(text)
    first = next((place for place, line in enumerate(found) if _name(line) == "zimbabwe"), len(found))
    named = [line for line in found[first:] if _name(line) not in _DISPUTED]
    countries = [_country(line) for line in named]
    complete = len(countries) == len(COUNTRIES) and set(countries) == {names[0] for names in COUNTRIES}
    return complete and all(one >= other for one, other in pairwise(map(_name, found[first:])))


def european_capitals_sort(text: str) -> bool:
    """The capitals of Europe above 45 degrees north, from north to south, parted by commas, nothing else."""
    said = [folded(part).strip() for part in text.strip().removesuffix(".").split(",")]
    return tuple(_CAPITALS_ALIASES.get(name, name) for name in said) == CAPITALS


def _country(line: str) -> str | None:
    """The first of its names. What stands in brackets may be part of the name, or added to it."""
    return _COUNTRY_OF.get(_words(line)) or _COUNTRY_OF.get(_name(line))


def _name(line: str) -> str:
    return _words(re.sub(r"\([^()]*\)", " ", line))


def _words(line: str) -> str:
    """In lower case, without accents, marks, the item's number and the article."""
    plain = re.sub(r"[^a-z]+", " ", folded(line)).strip()
    return plain.removeprefix("the ")


KINDS: Mapping[str, Check] = {
    "custom:reverse_newline": reverse_newline,
    "custom:european_capitals_sort": european_capitals_sort,
}
