"""Trials as ids: what a model reads is the rendered text, cut in the excerpt alone, in a chat or not.

Rungs: the text tokenised as a whole in the test; a search over all lengths for what fits.
"""

import itertools

import numpy as np
import pytest

from memprobe.errors import CheckpointError, ItemError
from memprobe.scoring import trials
from memprobe.scoring.questions import first_words
from memprobe.scoring.tokenise import tokenise
from memprobe.scoring.windows import with_views
from memprobe.tables.prompts import Prompt, render, right_label
from memprobe.tables.views import Trials

PLENTY = 400
WORDS = (
    "The miller's daughter counted the bells in the year of the flood, and nobody in the town "
    "of Harrow remembers who built the bridge that stands above the mill door."
)
FIRST, SECOND = "counted the bells", "built the bridge"
ROW = {
    "item_id": "a",
    "text": WORDS,
    "segment_1": FIRST,
    "segment_2": SECOND,
    "source_id": "s",
    "excerpt_words": 30,
    "segment_words": 3,
}
PROMPT = Prompt(
    "plain", "Read:\n{excerpt}\nA: {first}\nB: {second}\nFirst?", "A: {first}\nB: {second}\nFirst?"
)
OTHER = Prompt("other", "{excerpt}\n1: {first}\n2: {second}", "1: {first}\n2: {second}", labels=("1", "2"))
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def cut(items, tokenizer, vocabulary_limits):
    """Return a cutter: cut([row], view) gives the tokenised items and the rows of the view."""

    def make(rows, view, *, context_tokens=None, bos="none"):
        tokenised = tokenise(items(rows), tokenizer, bos=bos, limits=vocabulary_limits(PLENTY))
        return with_views(tokenised, tokenizer, [view], PLENTY, context_tokens=context_tokens)

    return make


@pytest.fixture
def chatty(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)
    return tokenizer


def asked(tokenised, windows) -> dict[tuple, list[int] | None]:
    """Return the ids of each row by item, prompt, condition and order; None: it has no place."""
    found = {}
    for row in windows.iter_rows(named=True):
        trial = row["trial"]
        key = (row["item_id"], trial["prompt_id"], trial["condition"], trial["order"])
        found[key] = None
        if row["stop"] is not None:
            found[key] = tokenised.ids[row["item_id"], row["part"]][row["start"] : row["stop"]].tolist()
    assert len(found) == windows.height
    return found


def encoded(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_every_prompt_is_asked_in_each_condition_and_both_orders(cut, tokenizer) -> None:
    tokenised, windows = cut([ROW, {"item_id": "plain", "text": "No segments."}], Trials((PROMPT, OTHER)))
    got = asked(tokenised, windows)
    assert got == {
        ("a", prompt.name, condition, order): encoded(tokenizer, render(prompt, condition, WORDS, *segments))
        for prompt in (PROMPT, OTHER)
        for condition in ("in_context", "parametric")
        for order, segments in (("AB", (FIRST, SECOND)), ("BA", (SECOND, FIRST)))
    }
    assert windows["window"].to_list() == list(range(8))
    assert windows["start"].to_list() == [0] * 8
    assert (windows["score_from"] == windows["stop"]).all()
    assert windows["trial"].struct.field("dropped_tokens").to_list() == [0] * 8
    for row in windows.iter_rows(named=True):
        assert row["part"].startswith("trial-")
        assert row["part"].endswith(f"-{row['trial']['condition']}-{row['trial']['order']}")
        labels = (PROMPT if row["trial"]["prompt_id"] == "plain" else OTHER).labels
        spelled = [{tokenizer.decode([i]).strip() for i in ids} for ids in tokenised.choices[row["part"]]]
        assert spelled == [{label} for label in labels]


def test_a_question_without_content_has_nothing_in_its_places(cut, tokenizer) -> None:
    got = asked(
        *cut(
            [ROW, {**ROW, "item_id": "b"} | {"segment_2": "stands above"}],
            Trials((PROMPT,), content_free=True),
        )
    )
    for item, condition in itertools.product("ab", ("in_context", "parametric")):
        text = render(PROMPT, condition, "N/A", "N/A", "N/A")
        assert got[item, "plain", condition, "free"] == encoded(tokenizer, text)
    assert len(got) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("separator", "condition"), list(itertools.product((" ", "\n\n"), ("in_context", "parametric")))
)
def test_segments_alone_are_scored_behind_the_excerpt_or_nothing(
    cut, tokenizer, separator, condition
) -> None:
    view = Trials(conditions=(condition,), likelihood=True, separator=separator)
    tokenised, windows = cut([ROW], view, bos="default")
    assert tokenised.n_front == 1
    got = asked(tokenised, windows)
    before = WORDS + separator if condition == "in_context" else ""
    for order, (one, two) in (("12", (FIRST, SECOND)), ("21", (SECOND, FIRST))):
        assert got["a", None, condition, order] == encoded(tokenizer, before + one + separator + two)
    for row in windows.iter_rows(named=True):
        ids = tokenised.ids["a", row["part"]]
        given = tokenizer.decode(ids[: row["score_from"]].tolist())
        # What crosses the border is scored: all of the excerpt is given, and of the separator what is apart.
        assert before.startswith(given)
        assert len(before) - len(given) <= len(separator)
        assert row["stop"] == len(ids)
    assert tokenised.choices == {}


@pytest.mark.parametrize("separator", [" ", "\n\n"])
def test_without_anything_in_front_both_orders_score_the_same_tokens(cut, tokenizer, separator) -> None:
    view = Trials(conditions=("parametric",), likelihood=True, separator=separator)
    _, windows = cut([ROW], view, bos="none")
    # Two runs of each order: up to the second segment, and behind its first token.
    assert windows["trial"].struct.field("order").to_list() == ["12", "12", "21", "21"]
    assert windows["window"].to_list() == [0, 1, 2, 3]
    scored = {}
    for order, (one, two) in (("12", (FIRST, SECOND)), ("21", (SECOND, FIRST))):
        ids = encoded(tokenizer, one + separator + two)
        n_before = len(encoded(tokenizer, one + separator.strip(" ")))
        rows = windows.filter(windows["trial"].struct.field("order") == order)
        places = [(0, 0, n_before), (0, n_before + 1, len(ids))]
        assert rows.select("start", "score_from", "stop").rows() == places
        # The first token of all has no score, of the second segment it is left out.
        left = [*ids[1:n_before], *ids[n_before + 1 :]]
        gap = encoded(tokenizer, separator.strip(" ")) if separator.strip(" ") else []
        scored[order] = sorted(left)
        assert all(each in left for each in gap)
    assert scored["12"] == scored["21"]


def overlong(cut, view, n_less: int, **options):
    """Cut with a context that is so many tokens shorter than the longest string of the trial."""
    tokenised, windows = cut([ROW], view, **options)
    longest = max(map(len, asked(tokenised, windows).values()))
    front = tokenised.n_front
    return cut([ROW], view, context_tokens=longest + front - n_less, **options), longest - n_less


@pytest.mark.parametrize("bos", ["none", "default"])
@pytest.mark.parametrize("n_less", [1, 2, 3, 9, 30])
def test_what_is_too_long_loses_as_few_words_of_the_excerpt_as_fit(cut, tokenizer, bos, n_less) -> None:
    view = Trials((PROMPT,), conditions=("in_context",))
    (tokenised, windows), room = overlong(cut, view, n_less, bos=bos)
    got = asked(tokenised, windows)

    def texts(n: int) -> list[list[int]]:
        excerpt = " ".join(WORDS.split()[:n])
        return [
            encoded(tokenizer, render(PROMPT, "in_context", excerpt, *segments))
            for segments in ((FIRST, SECOND), (SECOND, FIRST))
        ]

    n_kept = max(n for n in range(len(WORDS.split()) + 1) if max(map(len, texts(n))) <= room)
    assert 0 < n_kept < len(WORDS.split())
    assert [got["a", "plain", "in_context", order] for order in ("AB", "BA")] == texts(n_kept)
    whole = texts(len(WORDS.split()))
    dropped = [len(full) - len(now) for full, now in zip(whole, texts(n_kept), strict=True)]
    assert windows["trial"].struct.field("dropped_tokens").to_list() == dropped
    assert min(dropped) >= 1
    # The question is there token for token.
    question = encoded(tokenizer, f"\nA: {FIRST}\nB: {SECOND}\nFirst?\nAnswer: Segment")
    assert got["a", "plain", "in_context", "AB"][-len(question) :] == question


def test_a_bad_first_guess_at_the_words_that_fit_changes_nothing(cut, monkeypatch) -> None:
    view = Trials((PROMPT,), conditions=("in_context",))
    (tokenised, windows), _ = overlong(cut, view, 25)
    wanted = asked(tokenised, windows)
    for guess in (*range(len(WORDS.split()) + 1), 99):
        monkeypatch.setattr(trials._Fitter, "_estimate", lambda *_, guess=guess: guess)
        (tokenised, windows), _ = overlong(cut, view, 25)
        assert asked(tokenised, windows) == wanted


LONG = " ".join(f"{word}{place}" for place in range(30) for word in WORDS.split())
# Words like no others behind the segments: as many tokens as words would say are far too few.
DENSE = f"{WORDS} " + " ".join("x" * 90 for _ in range(60))


@pytest.mark.parametrize(("text", "guesses"), [(LONG, True), (DENSE, False)])
@pytest.mark.parametrize("room", [70, 150, 1000])
def test_of_an_excerpt_far_too_long_only_the_beginning_is_read_and_nothing_else_changes(
    cut, monkeypatch, text, guesses, room
) -> None:
    row = {**ROW, "text": text, "segment_1": text[4:20], "segment_2": text[50:80]}
    view = Trials((PROMPT,), content_free=True, likelihood=True)
    tokenised, windows = cut([row], view, context_tokens=room)
    read = []
    monkeypatch.setattr(trials._Fitter, "_more_than_fit", lambda *_: None)
    encode = trials._Fitter._encode
    monkeypatch.setattr(
        trials._Fitter, "_encode", lambda self, texts: read.extend(texts) or encode(self, texts)
    )
    slow, same = cut([row], view, context_tokens=room)
    assert windows.equals(same)
    assert asked_ids(tokenised) == asked_ids(slow)
    assert max(map(len, read)) > len(text)
    read.clear()
    monkeypatch.undo()
    monkeypatch.setattr(
        trials._Fitter, "_encode", lambda self, texts: read.extend(texts) or encode(self, texts)
    )
    cut([row], view, context_tokens=room)
    if guesses and room < 1000:
        assert max(map(len, read)) < len(text) / 2


def asked_ids(tokenised) -> dict[tuple[str, str], list[int]]:
    return {key: ids.tolist() for key, ids in tokenised.ids.items()}


def test_what_just_fits_is_whole(cut) -> None:
    (_, windows), _ = overlong(cut, Trials((PROMPT,)), 0)
    assert windows["trial"].struct.field("dropped_tokens").to_list() == [0] * 4


def test_a_prompt_that_shows_the_excerpt_last_keeps_its_question_too(cut, tokenizer) -> None:
    late = Prompt("late", "A: {first}\nB: {second}\n{excerpt}\nFirst?", "{first}{second}")
    (tokenised, windows), room = overlong(cut, Trials((late,), conditions=("in_context",)), 10)
    ids = asked(tokenised, windows)["a", "late", "in_context", "AB"]
    text = tokenizer.decode(ids)
    assert len(ids) <= room
    assert text.startswith(f"A: {FIRST}\nB: {SECOND}\nThe miller")
    assert text.endswith("\nFirst?\nAnswer: Segment")


def test_a_question_that_does_not_fit_has_no_place(cut, tokenizer) -> None:
    n_question = max(
        len(encoded(tokenizer, render(PROMPT, "in_context", "", *pair)))
        for pair in ((FIRST, SECOND), (SECOND, FIRST))
    )
    for room, there in ((n_question, True), (n_question - 1, False)):
        tokenised, windows = cut([ROW], Trials((PROMPT,), conditions=("in_context",)), context_tokens=room)
        assert [ids is not None for ids in asked(tokenised, windows).values()] == [there, there]
        places = windows.select("start", "score_from", "stop").null_count().row(0)
        assert places == ((0, 0, 0) if there else (2, 2, 2))
        assert len(tokenised.ids) == (3 if there else 1)
    # Without an excerpt there is nothing to lose.
    tokenised, windows = cut([ROW], Trials((PROMPT,), conditions=("parametric",)), context_tokens=10)
    assert set(asked(tokenised, windows).values()) == {None}


@pytest.mark.parametrize("n_less", [0, 1, 8])
def test_the_last_token_of_segments_alone_needs_no_room(cut, tokenizer, n_less) -> None:
    view = Trials(conditions=("in_context",), likelihood=True)
    whole = asked(*cut([ROW], view))
    longest = max(map(len, whole.values()))
    tokenised, windows = cut([ROW], view, context_tokens=longest - 1 - n_less)
    got = asked(tokenised, windows)
    assert max(map(len, got.values())) <= longest - n_less
    assert (got == whole) == (n_less == 0)
    for row in windows.iter_rows(named=True):
        scored = tokenised.ids["a", row["part"]][row["score_from"] :].tolist()
        order = (FIRST, SECOND) if row["trial"]["order"] == "12" else (SECOND, FIRST)
        assert tokenizer.decode(scored).strip() == " ".join(order)


def others(n: int) -> list[dict]:
    """Validation trials of other documents."""
    return [
        {
            **ROW,
            "item_id": f"v{i}",
            "source_id": f"o{i}",
            "split": "validation",
            "text": f"{i} {WORDS}",
        }
        for i in range(n)
    ]


def test_answered_trials_stand_before_the_question_with_their_right_labels(cut, tokenizer) -> None:
    tokenised, windows = cut([ROW, *others(3)], Trials((PROMPT,), shots=2))
    text = tokenizer.decode(asked(tokenised, windows)["a", "plain", "in_context", "AB"])
    first, second, question = text.split("\n\n")
    assert question == render(PROMPT, "in_context", WORDS, FIRST, SECOND)
    answers = []
    for shot in (first, second):
        number = shot.removeprefix("Read:\n")[0]
        order = "AB" if f"A: {FIRST}" in shot else "BA"
        pair = (FIRST, SECOND) if order == "AB" else (SECOND, FIRST)
        label = right_label(PROMPT, order)
        assert shot == f"{render(PROMPT, 'in_context', f'{number} {WORDS}', *pair)} {label}"
        answers.append(label)
    assert sorted(answers) == ["A", "B"]


def test_answered_trials_are_lost_two_by_two_before_any_word_of_the_excerpt(cut, tokenizer) -> None:
    rows, view = [ROW, *others(5)], Trials((PROMPT,), conditions=("in_context",), shots=4)
    whole = asked(*cut(rows, view))
    n_whole = len(whole["a", "plain", "in_context", "AB"])
    n_alone = len(encoded(tokenizer, render(PROMPT, "in_context", WORDS, FIRST, SECOND)))
    n_two = (n_whole + n_alone) // 2 + 10
    for room, n_shots in ((n_whole + 9, 4), (n_whole - 9, 2), (n_two, 2), (n_alone + 9, 0), (n_alone - 9, 0)):
        tokenised, windows = cut(rows, view, context_tokens=room)
        text = tokenizer.decode(asked(tokenised, windows)["a", "plain", "in_context", "AB"])
        assert text.count("Answer: Segment ") == n_shots
        assert text.endswith(f"A: {FIRST}\nB: {SECOND}\nFirst?\nAnswer: Segment")
        assert (WORDS in text) == (room >= n_alone)


def parts(windows) -> set[str]:
    return set(windows.filter(windows["item_id"] == "a")["part"])


def test_the_name_of_a_string_tells_all_that_it_depends_on(cut, chatty) -> None:
    titled = Prompt("plain", "{title}" + PROMPT.in_context, PROMPT.parametric)
    validation = others(3)
    views = {
        "": (Trials((PROMPT,), chat=False), validation),
        "text": (
            Trials((Prompt("plain", PROMPT.in_context + " ", PROMPT.parametric),), chat=False),
            validation,
        ),
        "stem": (
            Trials((Prompt("plain", PROMPT.in_context, PROMPT.parametric, stem="It is"),), chat=False),
            validation,
        ),
        "labels": (
            Trials((Prompt("plain", PROMPT.in_context, PROMPT.parametric, labels=("B", "A")),), chat=False),
            validation,
        ),
        "system": (
            Trials((Prompt("plain", PROMPT.in_context, PROMPT.parametric, system="s"),), chat=False),
            validation,
        ),
        "shots": (Trials((PROMPT,), shots=2, chat=False), validation),
        "the shots' text": (
            Trials((PROMPT,), shots=2, chat=False),
            [{**row, "text": row["text"] + " More."} for row in validation],
        ),
        "chat": (Trials((PROMPT,), chat=True), validation),
        "title": (Trials((titled,), chat=False), [{**row, "title": "T"} for row in validation]),
        "separator": (Trials(likelihood=True), validation),
        "separator\n": (Trials(likelihood=True, separator="\n"), validation),
    }
    found = {}
    for name, (view, rows) in views.items():
        first = {**ROW, "title": "T"} if name == "title" else ROW
        found[name] = parts(cut([first, *rows], view)[1])
    for one, two in itertools.combinations(found, 2):
        assert not found[one] & found[two], (one, two)
    # Another title is another prompt, though the item's content is the same.
    other = parts(
        cut([{**ROW, "title": "U"}, *[{**row, "title": "T"} for row in validation]], views["title"][0])[1]
    )
    assert not other & found["title"]
    # What does not change a string does not change its name.
    free = parts(
        cut([ROW, *validation], Trials((PROMPT,), content_free=True, likelihood=True, chat=False))[1]
    )
    assert found[""] < free
    assert found["separator"] < free


def test_a_chat_template_is_used_where_there_is_one_unless_it_is_refused(cut, chatty) -> None:
    spoken = Prompt("plain", PROMPT.in_context, PROMPT.parametric, system="Be brief.")
    text = render(PROMPT, "parametric", "", FIRST, SECOND).removesuffix("\nAnswer: Segment")
    chat = f"<s>system: Be brief.</s><s>user: {text}</s>assistant:Answer: Segment"
    for choice, wanted in ((None, chat), (True, chat), (False, f"Be brief.\n\n{text}\nAnswer: Segment")):
        tokenised, windows = cut([ROW], Trials((spoken,), chat=choice), bos="default")
        (row,) = [
            row
            for row in windows.iter_rows(named=True)
            if row["trial"]["order"] == "AB" and row["trial"]["condition"] == "parametric"
        ]
        ids = tokenised.ids["a", row["part"]]
        assert chatty.decode(ids.tolist()) == wanted
        # The template's special tokens are tokens, and none is put in front of it again.
        assert (int(ids[0]) == chatty.bos_token_id) == (choice is not False)
        assert tokenised.front_for("a", row["part"]) == (
            () if choice is not False else (chatty.bos_token_id,)
        )
    tokenised, windows = cut([ROW], Trials((PROMPT,), likelihood=True))
    alone = [row["part"] for row in windows.iter_rows(named=True) if row["trial"]["prompt_id"] is None]
    assert not any(part.startswith("chat") for part in alone)


def test_answered_trials_are_turns_of_a_chat(cut, chatty) -> None:
    tokenised, windows = cut([ROW, *others(3)], Trials((PROMPT,), conditions=("parametric",), shots=2))
    text = chatty.decode(asked(tokenised, windows)["a", "plain", "parametric", "AB"])
    question = f"A: {FIRST}\nB: {SECOND}\nFirst?"
    turned = f"A: {SECOND}\nB: {FIRST}\nFirst?"
    turns = [
        f"<s>user: {question}</s><s>assistant: Answer: Segment A</s>",
        f"<s>user: {turned}</s><s>assistant: Answer: Segment B</s>",
    ]
    last = f"<s>user: {question}</s>assistant:Answer: Segment"
    assert text in {"".join([*turns, last]), "".join([*turns[::-1], last])}


def test_a_chat_that_is_too_long_loses_words_and_counts_no_bos(cut, chatty) -> None:
    view = Trials((PROMPT,), conditions=("in_context",))
    whole = asked(*cut([ROW], view, bos="default"))
    longest = max(map(len, whole.values()))
    assert asked(*cut([ROW], view, bos="default", context_tokens=longest)) == whole
    tokenised, windows = cut([ROW], view, bos="default", context_tokens=longest - 1)
    text = chatty.decode(asked(tokenised, windows)["a", "plain", "in_context", "AB"])
    assert text.endswith(f"\nA: {FIRST}\nB: {SECOND}\nFirst?</s>assistant:Answer: Segment")
    assert WORDS not in text


def test_a_chat_without_a_template_is_refused(cut) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer has no chat template"):
        cut([ROW], Trials((PROMPT,), chat=True))


def test_a_title_that_is_missing_is_refused_by_item(cut) -> None:
    titled = Prompt("titled", "{title}: {excerpt}{first}{second}", PROMPT.parametric)
    with pytest.raises(ItemError) as error:
        cut([{**ROW, "title": "T"}, {**ROW, "item_id": "b", "segment_2": "stands above"}], Trials((titled,)))
    assert "the prompt titled names a title, and 1 of 2 trials have none" in str(error.value)
    assert "item b" in str(error.value)


def test_first_words_end_where_a_word_ends() -> None:
    text = " one  two\nthree "
    assert [first_words(text, n) for n in range(5)] == ["", " one", " one  two", " one  two\nthree", text]


def test_trials_of_one_excerpt_share_their_beginning(cut) -> None:
    tokenised, windows = cut(
        [ROW, {**ROW, "item_id": "b", "segment_2": "stands above"}],
        Trials((PROMPT,), conditions=("in_context",)),
    )
    ids = [np.asarray(each) for each in asked(tokenised, windows).values()]
    n_shared = len(tokenised.ids["a", "text"])
    assert len({each[:n_shared].tobytes() for each in ids}) == 1
