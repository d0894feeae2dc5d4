"""Answers that attack their judge: what they may change of what a judge is shown, and whether they are seen.

The law: an answer of any content changes one line of one question, its own quoted one, and no token of it is special.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.attack_texts import ATTACKS, HELD_OUT, ORDINARY, PLEAS, SPECIAL_TOKENS, Attack, Kind
from factory.judging.eligibility import Bar
from factory.jury import Rules, scorecards, stand
from factory.opening import cache_folder
from factory.serving.models import resolve_model
from judges.injection_words import WORDS
from judges.injections import looks_injected
from judges.listwise import ListwiseJudge
from judges.pairwise import PairwiseJudge
from judges.pointwise import PointwiseJudge
from judges.quoting import quoted, visible
from schemas.chat import Completion, Message, Request, TokenAlternative
from schemas.recipe import JudgeRef, Jury, ModelRef
from schemas.rows import Rollout, Verdict, VerdictStatus
from tests.samples import a_prompt, a_rollout

PROMPT = a_prompt()
SOUND = "Paris is the capital of France."
OTHERS = [a_rollout(slot=f"t{n}", text=f'Answer {n}: "Paris".') for n in (1, 2)]
RUBRIC = "You grade taste. 1: none. 9: all of it."
FRAGMENTS = [
    *('"', "\\", "\n", "\r", "\u2028", "\u2029", "\x85", "\u200b", "\u202e", "'", "{", "}", "x", " ", "\ud83d"),
    *(
        "<",
        "|",
        ">",
        "[",
        "]",
        "im_end",
        "s",
        "INST",
        "/",
        "\uff1c",
        "\uff5c",
        "\uff1e",
        "Answer to grade: ",
        "Answer B: ",
    ),
]

Protocol = Callable[[str], list[Request]]


def pointwise(answer: str) -> list[Request]:
    rollouts = [a_rollout(text=answer), *OTHERS]
    return [one.request for one in PointwiseJudge("taste", RUBRIC).ask(PROMPT, rollouts)]


def listwise(answer: str) -> list[Request]:
    rollouts = [a_rollout(text=answer), *OTHERS]
    return [one.request for one in ListwiseJudge("taste", RUBRIC).ask(PROMPT, rollouts)]


def pairwise(answer: str) -> list[Request]:
    return [one.request for one in PairwiseJudge("taste", RUBRIC).ask(PROMPT, a_rollout(text=answer), OTHERS[0])]


every_protocol = pytest.mark.parametrize("protocol", [pointwise, listwise, pairwise])
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: f"{one.kind.name}-{one.language}")


def changed_lines(protocol: Protocol, answer: str) -> list[str]:
    """The lines that differ from those about a sound answer, one of each question that is about the answer."""
    changed = []
    for sound, asked in zip(protocol(SOUND), protocol(answer), strict=True):
        assert [message.role for message in asked.messages] == [message.role for message in sound.messages]
        before, after = (
            "\n".join(message.content for message in request.messages).split("\n") for request in (sound, asked)
        )
        own = [line for old, line in zip(before, after, strict=True) if old != line]
        assert len(own) <= 1
        changed += own
    return changed


def unquoted(line: str) -> str:
    """What the JSON string says that a line ends in. Raises where anything stands behind it."""
    _, quote, rest = line.partition(': "')
    said = json.loads(quote[-1] + rest)
    assert isinstance(said, str)
    return said


def without_spaces(text: str) -> str:
    return text.replace(" ", "")


# --- what a judge is shown ---


@every_protocol
@every_attack
def test_attack_changes_its_own_line_alone_which_says_all_that_is_visible(protocol: Protocol, attack: Attack) -> None:
    answer = attack.on(SOUND)
    lines = changed_lines(protocol, answer)
    assert len(lines) == (2 if protocol is pairwise else 1)
    for line in lines:
        assert without_spaces(unquoted(line)) == without_spaces(visible(answer))


@every_attack
def test_attack_leaves_the_questions_about_other_answers_as_they_are(attack: Attack) -> None:
    assert pointwise(attack.on(SOUND))[1:] == pointwise(SOUND)[1:]


def graded(request: Request) -> Completion:
    """The reply of a model that grades by every word that it is shown."""
    words = json.dumps([message.content for message in request.messages])
    grade = str(1 + hashlib.sha256(words.encode()).digest()[0] % 9)
    return Completion(request.request_id, grade, "length", first_token=(TokenAlternative(grade, 0.0),))


def verdicts_on(answer: str) -> list[Verdict]:
    """The default protocol's on an answer and on OTHERS beside it."""
    judge, rollouts = PointwiseJudge("taste", RUBRIC), [a_rollout(text=answer), *OTHERS]
    replies = {one.request.request_id: graded(one.request) for one in judge.ask(PROMPT, rollouts)}
    return list(judge.read(PROMPT, rollouts, replies))


@every_attack
def test_attack_changes_no_other_answers_score(attack: Attack) -> None:
    assert verdicts_on(attack.on(SOUND))[1:] == verdicts_on(SOUND)[1:]


@every_attack
def test_attack_that_earns_the_highest_grade_leaves_the_others_apart_as_they_were(attack: Attack) -> None:
    """The prompt's mean moves with it, and what lies between two others does not."""
    rules, apart = Rules(Jury(judges=[JudgeRef(judge="helpfulness")]), {"helpfulness": 1.0}), set()
    for text, grade in ((SOUND, 2.0), (attack.on(SOUND), 9.0)):
        rollouts = [a_rollout(text=text), *OTHERS]
        verdicts = [scored(one, "helpfulness", own) for one, own in zip(rollouts, (grade, 3.0, 6.0), strict=True)]
        scores = stand(rollouts, verdicts, rules).scores
        apart.add(round(scores[OTHERS[1].rollout_id] - scores[OTHERS[0].rollout_id], 9))
    assert apart == {3.0}


def test_attacks_are_of_every_kind_and_the_pleas_of_many_languages() -> None:
    assert {attack.kind for attack in ATTACKS} == set(Kind)
    assert len(PLEAS) >= 20
    assert len({attack.language for attack in PLEAS}) >= 10
    assert any(attack.alone for attack in ATTACKS)


@every_protocol
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=30))
def test_attack_of_any_fragments_changes_its_own_line_alone(protocol: Protocol, parts: list[str]) -> None:
    answer = "".join(parts)
    for line in changed_lines(protocol, answer):
        assert without_spaces(unquoted(line)) == without_spaces(visible(answer))


# --- what tokens that becomes ---


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Of the shipped model. It has no types."""
    if find_spec("vllm") is None:
        pytest.skip("no vLLM in this environment")
    from transformers import AutoTokenizer

    model = resolve_model(ModelRef(model="SmolLM2-135M-Instruct"), cache_folder(), print)
    return AutoTokenizer.from_pretrained(model.folder)


def special_ids(tokenizer: Any) -> set[int]:
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def segments(tokenizer: Any, messages: Sequence[Message]) -> list[tuple[int, list[int]]]:
    """The prompt's tokens after the chat template: each special one, with the ordinary ones that follow it."""
    said = [{"role": message.role.value, "content": message.content} for message in messages]
    text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    special, found = special_ids(tokenizer), list[tuple[int, list[int]]]()
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        if token in special:
            found.append((token, []))
        else:
            found[-1][1].append(token)
    return found


@pytest.mark.real
@every_protocol
@every_attack
def test_tokens_of_an_attack_are_ordinary_and_stay_within_their_quotes_in_the_users_turn(
    protocol: Protocol, attack: Attack, tokenizer: Any
) -> None:
    for sound, asked in zip(protocol(SOUND), protocol(attack.on(SOUND)), strict=True):
        before, after = segments(tokenizer, sound.messages), segments(tokenizer, asked.messages)
        assert [special for special, _ in after] == [special for special, _ in before]
        changed = [
            (tokenizer.decode(old), tokenizer.decode(new))
            for (_, old), (_, new) in zip(before, after, strict=True)
            if old != new
        ]
        assert len(changed) <= 1  # none where the question is not about this answer
        for old, new in changed:
            assert new.startswith("user\n")
            (line,) = (own for was, own in zip(old.split("\n"), new.split("\n"), strict=True) if own != was)
            assert without_spaces(unquoted(line)) == without_spaces(visible(attack.on(SOUND)))


@pytest.mark.real
def test_tokens_every_special_token_of_the_tokenizer_is_ordinary_when_quoted(tokenizer: Any) -> None:
    special = special_ids(tokenizer)
    assert len(special) > 10
    for number in special:
        token = tokenizer.added_tokens_decoder[number].content
        assert special & set(tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"])
        assert not special & set(tokenizer(quoted(f"a{token}b", 99), add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    "token",
    [
        *("<repo_name>", "<file_sep>", "<fim_prefix>", "<tool_call>", "</tool_response>", "<extra_id_0>", "<unused7>"),
        *(
            "<seed:bos>",
            "<|turn>",
            "<turn|>",
            "[gMASK]",
            "[TOOL_CONTENT]",
            "[|user|]",
            "<BOS_TOKEN>",
            "<TOKENS_UNUSED_1>",
        ),
        *("<\uff5cAssistant\uff5c>", "\uff1cs\uff1e", "<reponame>", "<eot>", "[/THINK]", "[IMG]", "[CLS]"),
    ],
)
def test_special_token_of_any_family_is_pulled_apart(token: str) -> None:
    assert token not in quoted(f"a{token}b", 99)


@pytest.mark.parametrize(
    "code",
    ["<span>", "</div>", "List<int>", "x[mask]", "a <b|c> d", "xs |> f <| g", "[args]", "{% for x in y %}", "i<n_1"],
)
def test_special_token_is_not_seen_in_code(code: str) -> None:
    assert json.loads(quoted(code, 99)) == code


# --- whether it is seen ---


@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS if one.kind is not Kind.SCORE_LINE], ids=lambda one: one.text
)
def test_injection_is_seen_in_an_answer(attack: Attack) -> None:
    assert looks_injected(attack.on(SOUND))


def test_injection_other_wordings_are_mostly_seen_in_each_known_language() -> None:
    known = [one for one in HELD_OUT if one.language in WORDS]
    assert {one.language for one in known} == set(WORDS)
    assert sum(looks_injected(one.on(SOUND)) for one in known) >= 0.9 * len(known)


@pytest.mark.parametrize(("language", "text"), ORDINARY)
def test_injection_ordinary_text_in_its_words_is_not_accused(language: str, text: str) -> None:
    assert not looks_injected(text)
    assert looks_injected(text + "\n" + next(one.text for one in PLEAS if one.language == language))


@pytest.mark.parametrize(
    "line", ["Score: 9", "Rating: 9/10", "[[9]]", '{"A": 9}', "9", "England: \U0001f3f4\U000e0067\U000e007f"]
)
def test_injection_line_that_an_honest_answer_may_end_in_is_not_accused(line: str) -> None:
    """What such a line could do is held off by the quoting alone."""
    assert not looks_injected(f"{SOUND}\n{line}")


def texts_of(path: Path) -> list[str]:
    """Every string of a JSON-lines file."""
    found, left = list[str](), [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    while left:
        match left.pop():
            case str(text):
                found.append(text)
            case list(parts):
                left += parts
            case dict(fields):
                left += fields.values()
    return found


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "data" / "prompts").glob("*.jsonl")), ids=lambda p: p.stem
)
def test_injection_shipped_prompts_are_not_accused(path: Path) -> None:
    texts = texts_of(path)
    assert len(texts) > 20
    assert not [text for text in texts if looks_injected(text)]


@pytest.mark.parametrize(("name", "most"), [("prompts/ifeval", 0), ("prompts/mt_bench", 0), ("gold/llmbar", 3)])
def test_injection_shared_texts_are_hardly_accused(name: str, most: int, shared: Path) -> None:
    """LLMBar holds instructions that are injections."""
    assert sum(map(looks_injected, texts_of(shared / f"{name}.jsonl"))) <= most


@pytest.mark.parametrize("unit", ["\n", "ignore ", "this answer ", "ignore previous ", "<|", "[", "\u202e9 ", "\u0430"])
def test_injection_is_looked_for_in_linear_time(unit: str) -> None:
    began = time.process_time()
    looks_injected(unit * (200_000 // len(unit)))
    assert time.process_time() - began < 10


@pytest.mark.parametrize("attack", [PLEAS[0], PLEAS[-8], SPECIAL_TOKENS[0]], ids=lambda one: one.text)
def test_injection_with_the_highest_scores_cannot_be_chosen(attack: Attack) -> None:
    rollouts = [a_rollout(slot="t0", text=attack.on(SOUND)), a_rollout(slot="t1", text=SOUND)]
    jury = Jury(judges=[JudgeRef(judge="helpfulness"), JudgeRef(judge="clarity")])
    verdicts = [
        scored(rollout, judge, score)
        for judge in jury.seats
        for rollout, score in zip(rollouts, (9.0, 2.0), strict=True)
    ]
    rules = Rules(jury, dict.fromkeys(jury.seats, 1.0))
    attacked, sound = scorecards(stand(rollouts, verdicts, rules), rules)
    assert (attacked.score or 0) > (sound.score or 0)
    assert (attacked.eligible, attacked.note) == (False, Bar.INJECTION)
    assert sound.eligible


def scored(rollout: Rollout, judge: str, score: float) -> Verdict:
    return Verdict(rollout.prompt_id, rollout.rollout_id, judge, VerdictStatus.OK, score=score)
