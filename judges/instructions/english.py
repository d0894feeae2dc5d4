"""English words: how a text spells them, and the closed classes that checks count.

A word here is what stands between white space, slashes and dashes, without its punctuation: `don't` is `dont`, and
`well-known` is one word. What has neither letter nor digit is none.
"""

import re
import unicodedata

_BETWEEN_WORDS = re.compile(r"[\s/–—…]+|\.{2,}")


def listed(names: str) -> frozenset[str]:
    return frozenset(names.split())


CONJUNCTIONS = frozenset({"for", "and", "nor", "but", "or", "yet", "so"})
"""The coordinating ones."""

PRONOUNS = listed("""
    i me my mine myself we us our ours ourselves you your yours yourself yourselves thou thee thy thine thyself
    he him his himself she her hers herself it its itself they them their theirs themselves themself oneself
    this that these those who whom whose which what whoever whomever whichever whatever
    anybody anyone anything everybody everyone everything nobody nothing somebody someone something
    all another any both each either neither none others some
""")

STOP_WORDS = listed("""
    a about above after again against ain all am an and any are aren as at be because been before being below between
    both but by can couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn
    have haven having he her here hers herself him himself his how i if in into is isn it its itself just ll m ma me
    mightn more most mustn my myself needn no nor not now o of off on once only or other our ours ourselves out over own
    re s same shan she should shouldn so some such t than that the their theirs them themselves then there these they
    this those through to too under until up ve very was wasn we were weren what when where which while who whom why
    will with won wouldn y you your yours yourself yourselves
""")
"""As common lists have them. Pieces of contractions are in it, since a word ends at an apostrophe there."""

MINOR_WORDS = listed("""
    a an the and but for nor or so yet as at by down from if in into like near of off on onto out over past per
    than till to up upon via vs with
""")
"""What a title may leave in lower case."""


def chunks(text: str) -> list[str]:
    """The words with the punctuation that touches them."""
    return [chunk for chunk in _BETWEEN_WORDS.split(text) if any(map(str.isalnum, chunk))]


def spelled(text: str) -> list[str]:
    """The words, letters and digits alone, in the case that they have."""
    return ["".join(filter(str.isalnum, chunk)) for chunk in chunks(unicodedata.normalize("NFC", text))]


def folded(text: str) -> str:
    """In lower case and without accents."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(mark for mark in plain if not unicodedata.combining(mark)).casefold()


def initials(text: str) -> list[str]:
    """The first letter of each word, in lower case and without its accent."""
    return [folded(word)[:1] for word in spelled(text)]
