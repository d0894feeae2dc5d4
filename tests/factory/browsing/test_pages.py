"""The pages as a browser asks for them: what is refused, what is shown, and that a mark is there when it was made.

prefactory browse runs/mine
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from factory.browsing.guard import HEADERS
from factory.ledger.marks import read_marks, write_mark
from factory.looking import queries
from factory.run import RunFolder
from schemas.marks import Mark
from schemas.rows import Loop, Pair
from schemas.tables import Table
from tests.browsed import TOKEN, Page, a_browsed_run, served
from tests.reports import LONG

PAIR = {"round": "1", "prompt_id": "p01", "chosen_id": "p01:t0", "rejected_id": "p01:t1"}


class Text(HTMLParser):
    """What a page says, its elements, and its hidden fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.found = "", list[tuple[str, dict[str, str | None]]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self, rel: str) -> list[str]:
        return [str(own["href"]) for tag, own in self.found if tag == "a" and own.get("rel") == rel]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with served(a_browsed_run(tmp_path / "run"), tmp_path / "cache") as found:
        yield found


def marked(page: Page, **more: str) -> str:
    """Post a mark; where the browser goes next."""
    answer = page.client.post(f"/{TOKEN}/mark", data=PAIR | {"mark": "right"} | more)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_page_is_for_who_has_the_token(page: Page) -> None:
    for path in ("/", "/other/", "/static/browse.js", "/pair/1/p00"):
        answer = page.client.get(path)
        assert answer.status_code == 404
        assert "p00" not in answer.text
    assert page.client.get(f"/{TOKEN}/", headers={"host": "evil.example"}).status_code == 403


def test_page_every_answer_forbids_what_another_page_could_do_with_it(page: Page) -> None:
    for path in (f"/{TOKEN}/", f"/{TOKEN}/static/browse.css", f"/{TOKEN}/pair/1/none", "/wrong/"):
        answer = page.client.get(path, headers={"origin": "http://evil.example"})
        assert HEADERS.items() <= dict(answer.headers).items()
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_page_takes_no_mark_by_get_nor_from_another_page(page: Page) -> None:
    assert page.client.get(f"/{TOKEN}/mark", params=PAIR | {"mark": "right"}).status_code == 405
    other = page.client.post(f"/{TOKEN}/mark", data=PAIR | {"mark": "right"}, headers={"origin": "http://evil.example"})

    assert other.status_code == 403
    assert read_marks(RunFolder(page.root)) == []


def test_page_shows_pairs_and_moves_through_all_of_them(page: Page) -> None:
    first = Text(page.get())
    (after, again) = first.links("next")
    second = Text(page.get(after.removeprefix(f"/{TOKEN}")))

    assert "1 to 20 of 33" in first.text
    assert "21 to 33 of 33" in second.text
    assert after == again
    assert second.links("next") == []
    assert "1 to 20 of 33" in Text(page.get(second.links("prev")[0].removeprefix(f"/{TOKEN}"))).text


def test_page_filters_lie_in_the_address(page: Page) -> None:
    shown = Text(page.get("/?cause=loop&round=1"))

    assert "1 to 10 of 10" in shown.text
    chosen = [own["value"] for tag, own in shown.found if tag == "option" and "selected" in own]
    assert chosen == ["loop", "1", "stored"]
    assert "No pair meets these filters" in page.get("/?cause=human")
    assert page.client.get(f"/{TOKEN}/?cause=nonsense").status_code == 400
    assert "cause" in page.client.get(f"/{TOKEN}/?cause=nonsense").text
    assert page.client.get(f"/{TOKEN}/?after=1e9").status_code == 400


def test_page_marks_a_loop_where_it_starts_and_repeats(page: Page) -> None:
    text = page.get("/?cause=loop&round=1&sample=1")

    assert text.count('<mark class="copy') == 11 + 1
    assert Text(text).text.count("repeats from here") == 1
    assert "again 12" in Text(text).text


def test_pair_page_shows_every_answer_with_every_judge(page: Page) -> None:
    text = Text(page.get("/pair/1/p00?cause=loop&round=1"))

    assert "All 6 answers" in text.text
    assert "hard loop (exact): never chosen, always rejected" in text.text
    assert "may not be chosen: same text as another" in text.text
    assert text.text.count("clarity") == 6
    assert "skipped_loop" in text.text
    assert [link.split("?")[0] for link in text.links("next")] == [f"/{TOKEN}/pair/1/p03"]
    assert text.links("prev") == []


def test_pair_page_shows_what_was_confirmed(page: Page) -> None:
    assert "before\\x00after" in page.get("/pair/1/p01")
    assert "Both side by side" not in page.get("/pair/1/p02")


def test_pair_page_of_no_pair_says_so(page: Page) -> None:
    for path in ("/pair/1/nobody", "/pair/7/p00", "/pair/1/..%2f..%2fetc", "/pair/1/%00"):
        answer = page.client.get(f"/{TOKEN}{path}")
        assert answer.status_code == 404, path


def test_page_shows_hostile_texts_as_texts(page: Page) -> None:
    for text in (page.get(), page.get("/pair/0/a"), page.get("/pair/0/b"), page.get("/pair/0/c")):
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
        tags = {tag for tag, _ in Text(text).found}
        assert "img" not in tags
        scripts = [own for tag, own in Text(text).found if tag == "script"]
        assert [own["src"] for own in scripts] == [f"/{TOKEN}/static/browse.js"]
        assert not [own for _, own in Text(text).found if any(name.startswith("on") or name == "style" for name in own)]
    shown = Text(page.get()).text
    assert "<script>window.pwned = 1</script>" in shown
    assert "before\\x00after \\x1b[31mred" in shown
    assert "\\u202egnorw" in shown
    assert LONG in shown


def test_mark_is_there_when_the_page_is_loaded_again(page: Page) -> None:
    where = marked(page, why="<b>because</b>", back="round=1&order=close")

    (mark,) = read_marks(RunFolder(page.root))
    assert (mark.prompt_id, mark.round, mark.mark, mark.why, mark.marked_by) == (
        "p01",
        1,
        Mark.RIGHT,
        "<b>because</b>",
        "ann",
    )
    assert where == f"/{TOKEN}/?round=1&order=close#p{(1 << 40) + 1}"
    text = page.get("/?mark=right")
    assert "1 to 1 of 1" in text
    assert "Right, says ann" in text
    assert "&lt;b&gt;because&lt;/b&gt;" in text
    assert queries.ask(page.root, "SELECT mark, why FROM human").rows == (("right", "<b>because</b>"),)


def test_mark_moves_on_to_the_next_card_where_the_filters_leave_the_marked_one_out(page: Page) -> None:
    assert marked(page, back="mark=unmarked", after="77") == f"/{TOKEN}/?mark=unmarked#p77"
    assert "of 32" in page.get("/?mark=unmarked")
    assert marked(page, mark="withdrawn", back="mark=unmarked").endswith(f"#p{(1 << 40) + 1}")
    assert "of 33" in page.get("/?mark=unmarked")


def test_mark_from_a_pairs_own_page_stays_on_it(page: Page) -> None:
    assert marked(page, here="pair", back="cause=jury") == f"/{TOKEN}/pair/1/p01?cause=jury"


def test_mark_leads_nowhere_else_whatever_the_form_says(page: Page) -> None:
    answer = page.client.post(f"/{TOKEN}/mark", data=PAIR | {"mark": "right", "back": "//evil.example/?x=1"})

    assert answer.status_code == 400


def test_mark_a_hard_loop_is_never_made_the_chosen_answer(page: Page) -> None:
    loop = {"round": "1", "prompt_id": "p00", "chosen_id": "p00:t0", "rejected_id": "p00:greedy", "mark": "flipped"}
    answer = page.client.post(f"/{TOKEN}/mark", data=loop)

    assert answer.status_code == 400
    assert "hard loop" in answer.text
    assert read_marks(RunFolder(page.root)) == []


@pytest.mark.parametrize("more", [{"mark": "yes"}, {"rejected_id": "p01:t3"}, {"round": "x"}, {"extra": "1"}])
def test_mark_that_is_none_or_of_another_pair_is_refused(page: Page, more: dict[str, str]) -> None:
    answer = page.client.post(f"/{TOKEN}/mark", data=PAIR | {"mark": "right"} | more)

    assert answer.status_code == 400
    assert read_marks(RunFolder(page.root)) == []


def test_mark_of_enormous_size_is_refused(page: Page) -> None:
    answer = page.client.post(f"/{TOKEN}/mark", data=PAIR | {"mark": "right", "why": "x" * 100_000})

    assert answer.status_code == 413
    assert read_marks(RunFolder(page.root)) == []


def test_mark_is_taken_while_a_run_holds_its_folder(page: Page) -> None:
    with RunFolder(page.root).locked():
        marked(page)

    assert len(read_marks(RunFolder(page.root))) == 1


def test_agreement_is_given_over_all_marks_and_over_the_sample(page: Page) -> None:
    marked(page)
    marked(page, prompt_id="p02", chosen_id="p02:t0", rejected_id="p02:t1", mark="flipped")
    marked(page, prompt_id="p00", chosen_id="p00:t0", rejected_id="p00:greedy")

    text = Text(page.get("/?order=disputed&sample=2")).text

    assert "All marks: the jury is right in 1 of 2 = 50.0% (95%: 9.5% to 90.5%, Wilson's)" in text
    assert "on pairs that a loop or a check decided, not counted: 1" in text
    assert "This sample of 2 pairs: the jury is right in 0 of 1" in text
    assert "It is biased: those that the judges dispute most" in text
    assert "Drawn at random by seed 1" in Text(page.get("/?order=random&sample=9")).text


def test_page_says_that_marks_on_pairs_that_are_no_more_do_not_count(page: Page) -> None:
    marked(page)
    run = RunFolder(page.root, 1)
    run.write_part(Table.PAIRS, 0, [pair for pair in run.read_rows(Pair, 0) if pair.prompt_id != "p01"])
    page.get()
    page.pairs.index.finish()

    assert "Not counted: 1 marks on pairs that lie there no more" in page.get()


def test_page_shows_what_comes_in_while_it_is_open(page: Page) -> None:
    run = RunFolder(page.root, 1)
    run.write_part(Table.PAIRS, 1, run.read_rows(Pair, 0)[:2])
    page.get()
    page.pairs.index.finish()

    assert "of 35" in page.get()


def test_page_shows_a_mark_that_was_made_elsewhere(page: Page) -> None:
    assert "1 to" not in page.get("/?mark=both_bad")
    marked(page, mark="both_bad")
    (mark,) = read_marks(RunFolder(page.root))

    write_mark(RunFolder(page.root, 1), mark, Loop.CLEAN)

    assert "Both bad, says ann" in page.get("/?mark=both_bad")
