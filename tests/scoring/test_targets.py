"""Targets of a search as ids: the item, its controls, and all of it inside a chat template."""

import pytest

from memprobe.errors import CheckpointError
from memprobe.scoring.search import allowed_ids
from memprobe.scoring.tokenise import tokenise
from memprobe.scoring.windows import with_views
from memprobe.tables.views import Targets

PLENTY = 400
TEXT = "The miller's bells rang over the bridge, and nobody knew why."
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def cut(items, tokenizer, vocabulary_limits):
    """Return a cutter: cut([{"text": ...}], view) gives the tokenised items and the rows of the view."""

    def make(rows, *views, with_tokenizer=tokenizer, bos="none"):
        tokenised = tokenise(items(rows), with_tokenizer, bos=bos, limits=vocabulary_limits(PLENTY))
        return with_views(tokenised, with_tokenizer, views, PLENTY)

    return make


@pytest.fixture
def chatty(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)
    return tokenizer


ROW = {"item_id": "a", "text": TEXT}
CONTROLS = Targets(controls=True)


def strings(cut, rows, view, **options) -> dict[int, tuple[list[int], list[int], list[int]]]:
    """Return head, tail and target of each row by its number."""
    tokenised, windows = cut(rows, view, **options)
    found = {}
    for row in windows.iter_rows(named=True):
        ids = tokenised.ids[row["item_id"], row["part"]].tolist()
        start, middle, stop = row["start"], row["score_from"], row["stop"]
        found[row["window"]] = (ids[:start], ids[start:middle], ids[middle:stop])
    return found


def test_the_target_of_an_item_is_the_item_or_its_first_tokens(cut, tokenizer) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert strings(cut, [ROW], Targets()) == {0: ([], [], ids)}
    assert strings(cut, [ROW], Targets(7)) == {0: ([], [], ids[:7])}
    # A cut is no demand: what is shorter stays whole.
    assert strings(cut, [ROW], Targets(10_000)) == {0: ([], [], ids)}
    # Nothing is tokenised twice.
    assert list(cut([ROW], Targets(7))[0].ids) == [("a", "text")]


def test_random_tokens_are_as_many_and_of_those_that_a_prompt_may_hold(cut, tokenizer) -> None:
    for k in (None, 7):
        found = strings(cut, [ROW], Targets(k, controls=True))
        item, drawn = found[0][2], found[1][2]
        assert len(drawn) == len(item)
        assert drawn != item
        assert set(drawn) <= set(allowed_ids(tokenizer, PLENTY).tolist())
        assert len(set(drawn)) > 5


def test_shuffled_are_the_same_words_in_another_order(cut, tokenizer) -> None:
    shuffled = tokenizer.decode(strings(cut, [ROW], CONTROLS)[2][2])
    assert sorted(shuffled.split()) == sorted(TEXT.split())
    assert shuffled.split() != TEXT.split()
    # Of a target that is cut, the words that are left of it.
    few = strings(cut, [ROW], Targets(12, controls=True))
    words = tokenizer.decode(few[0][2]).split()
    assert set(tokenizer.decode(few[2][2]).split()[:-1]) <= set(words)
    assert len(few[2][2]) <= 12


@pytest.mark.parametrize("text", ["bells", "bells bells bells"])
def test_what_has_no_other_order_has_no_shuffled_control(cut, text) -> None:
    assert set(strings(cut, [{"item_id": "a", "text": text}], CONTROLS)) == {0, 1}


def test_controls_depend_on_the_items_content_alone(cut) -> None:
    alone = strings(cut, [ROW], CONTROLS)
    other = {"item_id": "z", "text": "Something else that was rung."}
    twin = ROW | {"item_id": "b"}
    tokenised, windows = cut([other, twin], CONTROLS)
    of_twin = windows.filter(windows["item_id"] == "b")
    assert [
        tokenised.ids["b", row["part"]].tolist()[: row["stop"]] for row in of_twin.iter_rows(named=True)
    ] == [alone[window][2] for window in (0, 1, 2)]
    assert tokenised.ids["z", "random-all"].tolist() != alone[1][2]


def test_two_views_of_one_item_do_not_take_each_others_strings(cut) -> None:
    tokenised, windows = cut([ROW], Targets(5, controls=True), CONTROLS)
    assert windows["view"].unique().sort().to_list() == ["targets-5-controls", "targets-all-controls"]
    for row in windows.iter_rows(named=True):
        assert row["part"] == "text" or len(tokenised.ids["a", row["part"]]) == row["stop"]


def test_items_given_as_ids_have_words_if_there_is_a_tokenizer(cut, tokenizer) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    found = strings(cut, [{"item_id": "a", "input_ids": ids}], CONTROLS)
    assert set(found) == {0, 1, 2}
    assert found[0][2] == ids
    without = strings(cut, [{"item_id": "a", "input_ids": ids}], CONTROLS, with_tokenizer=None)
    assert set(without) == {0, 1}


def test_a_target_that_holds_the_unknown_token_has_no_place(cut, make_tokenizer) -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    tokenizer.unk_token = tokenizer.convert_ids_to_tokens(ids[9])
    _, windows = cut([ROW], CONTROLS, with_tokenizer=tokenizer)
    assert windows.select("window", "part", "start", "stop").rows() == [(0, "text", None, None)]
    # Behind the cut it does no harm.
    assert strings(cut, [ROW], Targets(9), with_tokenizer=tokenizer)[0][2] == ids[:9]


def test_a_tokenizer_of_bytes_names_an_unknown_token_that_it_never_uses(cut, make_tokenizer) -> None:
    tokenizer = make_tokenizer()
    tokenizer.unk_token = tokenizer.eos_token
    row = {"item_id": "a", "input_ids": [5, tokenizer.eos_token_id, 7]}
    assert strings(cut, [row], Targets(), with_tokenizer=tokenizer)[0][2] == row["input_ids"]


# Chats


def test_in_a_chat_the_free_tokens_stand_in_the_users_message(cut, chatty) -> None:
    found = strings(cut, [ROW], Targets(chat=True, lead_in=" Sure: "), with_tokenizer=chatty)
    assert set(found) == {0, 3}
    head, tail, target = (chatty.decode(each) for each in found[3])
    # Template: <s>user: MESSAGE</s>assistant:
    assert (head, tail, target) == ("<s>user: ", "</s>assistant: Sure: ", TEXT)
    # Special tokens of the template are those tokens, not their letters.
    assert found[3][0][0] == chatty.bos_token_id
    assert found[3][1][0] == chatty.eos_token_id


def test_a_system_message_is_in_the_head(cut, chatty) -> None:
    found = strings(cut, [ROW], Targets(chat=True, system="Quote nobody."), with_tokenizer=chatty)
    assert chatty.decode(found[3][0]) == "<s>system: Quote nobody.</s><s>user: "


def test_nothing_else_stands_in_front_of_a_chat(cut, chatty) -> None:
    tokenised, windows = cut([ROW], Targets(chat=True), with_tokenizer=chatty, bos="forced")
    chat = windows.filter(windows["window"] == 3)["part"].item()
    assert tokenised.front_for("a", chat) == ()
    assert tokenised.front_for("a", "text") == (chatty.bos_token_id,)


def test_controls_and_ids_are_answers_too(cut, chatty) -> None:
    view = Targets(6, controls=True, chat=True)
    plain = strings(cut, [ROW], Targets(6, controls=True), with_tokenizer=chatty)
    found = strings(cut, [ROW], view, with_tokenizer=chatty)
    assert set(found) == {0, 1, 2, 3, 4, 5}
    assert found[4][2] == plain[1][2]
    assert all(found[number][:2] == found[3][:2] for number in (4, 5))
    assert len(found[3][2]) == 6
    ids = plain[0][2]
    as_ids = strings(cut, [{"item_id": "a", "input_ids": ids}], Targets(chat=True), with_tokenizer=chatty)
    assert as_ids[3][2] == ids


def test_a_token_across_the_border_of_lead_in_and_target_belongs_to_the_target(cut, chatty) -> None:
    # A lead-in that ends where one token of the text would begin with its space.
    found = strings(
        cut,
        [{"item_id": "a", "text": " bells rang"}],
        Targets(chat=True, lead_in="The"),
        with_tokenizer=chatty,
    )
    whole = found[3][1] + found[3][2]
    assert chatty.decode(whole) == "</s>assistant:The bells rang"
    assert chatty.decode(found[3][2]).endswith(" bells rang")


def test_other_words_around_make_another_string(cut, chatty) -> None:
    views = [Targets(chat=True, lead_in=each) for each in ("", "Yes: ")]
    tokenised, windows = cut([ROW], *views, with_tokenizer=chatty)
    parts = windows.filter(windows["window"] == 3)["part"].unique().to_list()
    assert len(parts) == 2
    assert all("Yes" not in part for part in parts)
    assert len({tuple(tokenised.ids["a", part].tolist()) for part in parts}) == 2


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "chat = true, and the tokenizer has no chat template"),
        ("always the same", "has the user's message 0 times, not once"),
        ("{{ messages[-1].content * 2 }}", "has the user's message 2 times, not once"),
        ("{{ raise_exception('roles must alternate') }}", "cannot be filled: roles must alternate"),
    ],
)
def test_a_template_that_cannot_be_split_is_refused(cut, tokenizer, monkeypatch, template, told) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(CheckpointError, match=told) as caught:
        cut([ROW], Targets(chat=True))
    assert "chat" in caught.value.problems[0].fix
