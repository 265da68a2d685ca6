"""Windows over documents and chats: ids against a second tokenisation, offsets against the source text."""

import pytest

from memprobe.errors import CheckpointError, ItemError
from memprobe.scoring.tokenise import tokenise
from memprobe.scoring.windows import with_views
from memprobe.tables.views import CharWindows, Chat, TokenWindows

PLENTY = 400
TEXT = "The miller's bells rang over the bridge. Nobody knew who had pulled the rope, or why it rained. " * 3
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def cut(items, tokenizer, vocabulary_limits):
    """Return a cutter: cut([{"text": ...}], view, ...) gives the tokenised items and the windows."""

    def make(rows, *views, with_tokenizer=tokenizer, vocabulary=PLENTY, bos="none"):
        tokenised = tokenise(items(rows), with_tokenizer, bos=bos, limits=vocabulary_limits(PLENTY))
        return with_views(tokenised, with_tokenizer, views, vocabulary)

    return make


@pytest.fixture
def plain(tokenizer):
    """Return the ids of a text, nothing in front."""
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


def test_token_windows_are_spans_of_one_tokenisation_at_every_stride(cut, plain) -> None:
    tokenised, windows = cut([{"item_id": "a", "text": TEXT}], TokenWindows(4, 3, 5))
    ids = plain(TEXT)
    # Starts 0, 5, 10, ... as long as 7 tokens are left.
    starts = list(range(0, len(ids) - 7 + 1, 5))
    assert windows["start"].to_list() == starts
    assert windows["score_from"].to_list() == [start + 4 for start in starts]
    assert windows["stop"].to_list() == [start + 7 for start in starts]
    assert windows["window"].to_list() == list(range(len(starts)))
    assert set(windows["part"]) == {"text"}
    assert windows["document_chars"].unique().to_list() == [len(TEXT)]
    # Nothing is tokenised twice.
    assert list(tokenised.ids) == [("a", "text")]


def test_the_characters_of_a_token_window_are_those_of_its_tokens(cut, tokenizer) -> None:
    tokenised, windows = cut([{"item_id": "a", "text": TEXT}], TokenWindows(4, 3, 5))
    ids = tokenised.ids["a", "text"]
    for row in windows.iter_rows(named=True):
        # ASCII text under a byte-level tokenizer: decoded tokens are the source, character by character.
        before = len(tokenizer.decode(ids[: row["start"]]))
        given = len(tokenizer.decode(ids[: row["score_from"]]))
        end = len(tokenizer.decode(ids[: row["stop"]]))
        found = (row["window_start_char"], row["suffix_start_char"], row["suffix_end_char"])
        assert found == (before, given, end)


def test_character_windows_are_the_first_tokens_of_each_slice_tokenised_alone(cut, tokenizer, plain) -> None:
    view = CharWindows(4, 3, 11)
    tokenised, windows = cut([{"item_id": "a", "text": TEXT}], view)
    expected = []
    for first in range(0, len(TEXT), 11):
        ids = plain(TEXT[first : first + 56])
        if len(ids) >= 7:
            expected.append((first, ids[:7]))
    assert len(expected) > 20
    assert windows["window_start_char"].to_list() == [first for first, _ in expected]
    for row, (first, ids) in zip(windows.iter_rows(named=True), expected, strict=True):
        assert tokenised.ids["a", row["part"]].tolist() == ids
        assert (row["start"], row["score_from"], row["stop"]) == (0, 4, 7)
        assert row["suffix_start_char"] == first + len(tokenizer.decode(ids[:4]))
        assert row["suffix_end_char"] == first + len(tokenizer.decode(ids))


def test_many_slices_are_numbered_on_across_batches(cut, monkeypatch) -> None:
    rows = [{"item_id": "a", "text": TEXT}, {"item_id": "b", "text": TEXT[10:]}]
    whole = cut(rows, CharWindows(4, 3, 11))[1]
    monkeypatch.setattr("memprobe.scoring.windows._SLICES_AT_ONCE", 4)
    assert cut(rows, CharWindows(4, 3, 11))[1].equals(whole)
    assert whole.filter(item_id="b")["window"].to_list() == list(range(whole.filter(item_id="b").height))


def test_a_character_that_prefix_and_suffix_share_counts_as_given(cut, plain) -> None:
    # The tokenizer knows no snowman, so it is three byte tokens; the border falls within it.
    text = "☃☃☃ bells"
    assert len(plain("☃")) == 3
    _, windows = cut([{"item_id": "a", "text": text}], TokenWindows(1, 3, 1))
    # Prefix: byte 0 of snowman 0. Suffix: its bytes 1 and 2, and byte 0 of snowman 1, which stays unfinished.
    first = windows.row(0, named=True)
    assert (first["window_start_char"], first["suffix_start_char"], first["suffix_end_char"]) == (0, 1, 1)
    # Prefix: byte 2 of snowman 0. Suffix: all of snowman 1.
    third = windows.row(2, named=True)
    assert (third["suffix_start_char"], third["suffix_end_char"]) == (1, 2)


def test_the_tail_of_a_document_has_no_window(cut, plain) -> None:
    _, windows = cut([{"item_id": "a", "text": TEXT}], CharWindows(4, 3, 11))
    assert windows["stop"].null_count() == 0
    last = windows["window_start_char"][-1]
    # The slice at the next stride would hold too few tokens.
    assert len(plain(TEXT[last:])) >= 7 > len(plain(TEXT[last + 11 :]))


def test_a_slice_with_too_few_tokens_is_a_row_without_a_place(cut, plain, monkeypatch) -> None:
    word = " the"
    assert len(plain(word)) == 1
    # One token per 4 characters: a slice of 8 per token holds twice as many as are needed. Shrink it.
    monkeypatch.setattr("memprobe.tables.views.SLICE_CHARS_PER_TOKEN", 3)
    _, windows = cut([{"item_id": "a", "text": word * 40}], CharWindows(4, 4, 4))
    # Slices of 24 characters hold 6 tokens, not 8; those that would pass the end are no windows at all.
    assert windows["stop"].null_count() == windows.height == (160 - 24) // 4 + 1


def test_items_that_are_too_short_have_no_windows(cut) -> None:
    _, windows = cut([{"item_id": "a", "text": "bells"}], TokenWindows(4, 3, 5), CharWindows(4, 3, 5))
    assert windows.is_empty()


def test_prefix_and_suffix_are_one_document(cut) -> None:
    whole = cut([{"item_id": "a", "text": TEXT}], CharWindows(4, 3, 11))[1]
    split = cut([{"item_id": "a", "prefix": TEXT[:50], "suffix": TEXT[50:]}], CharWindows(4, 3, 11))[1]
    assert split.equals(whole)


def test_ids_have_token_windows_without_characters_and_no_character_windows(cut) -> None:
    rows = [{"item_id": "a", "input_ids": list(range(20))}]
    _, windows = cut(rows, TokenWindows(4, 3, 5), CharWindows(4, 3, 5))
    assert windows["view"].unique().to_list() == ["tokens-4+3-every-5"]
    assert windows["start"].to_list() == [0, 5, 10]
    for name in ("window_start_char", "suffix_start_char", "suffix_end_char", "document_chars"):
        assert windows[name].null_count() == 3


def test_equal_views_are_cut_once(cut) -> None:
    rows = [{"item_id": "a", "text": TEXT}]
    once, twice = cut(rows, Chat(), TokenWindows(4, 3, 5)), cut(rows, *[TokenWindows(4, 3, 5)] * 2)
    assert once[1].equals(twice[1])


def test_a_tokenizer_without_offsets_is_refused(cut, tokenizer) -> None:
    class Slow:
        is_fast = False
        bos_token_id = None

        def __call__(self, text, **_):
            many = isinstance(text, list)
            return {"input_ids": [[1, 2]] * len(text) if many else [1, 2]}

        decode = None

    with pytest.raises(ItemError, match="does not") as caught:
        cut([{"item_id": "a", "text": TEXT}], TokenWindows(4, 3, 5), with_tokenizer=Slow())
    assert "--tokenizer" in caught.value.problems[0].fix


def test_ids_of_a_slice_outside_the_vocabulary_are_refused_with_file_and_line(cut) -> None:
    with pytest.raises(ItemError, match=r"item a holds the id \d+, the model's vocabulary has 20"):
        cut([{"item_id": "a", "text": TEXT}], CharWindows(4, 3, 11), vocabulary=20)


# Chats


@pytest.fixture
def chatty(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)
    return tokenizer


def test_a_chat_is_the_template_around_the_prefix_and_then_the_suffix(cut, chatty) -> None:
    rows = [{"item_id": "a", "prefix": "Who rang?", "suffix": " The miller."}]
    tokenised, windows = cut(rows, Chat(), with_tokenizer=chatty)
    row = windows.row(0, named=True)
    ids = tokenised.ids["a", "chat"].tolist()
    assert chatty.decode(ids[: row["score_from"]]) == "<user>Who rang?<assistant>"
    assert chatty.decode(ids[row["score_from"] :]) == " The miller."
    assert (row["part"], row["start"], row["stop"]) == ("chat", 0, len(ids))


def test_nothing_stands_in_front_of_a_chat_but_what_its_template_puts_there(cut, chatty) -> None:
    rows = [{"item_id": "a", "prefix": "Who rang?", "suffix": " The miller."}]
    tokenised, _ = cut(rows, Chat(), with_tokenizer=chatty, bos="forced")
    assert tokenised.front_for("a", "text")
    assert tokenised.front_for("a", "chat") == ()


def test_items_without_a_prefix_have_no_chat(cut, chatty) -> None:
    assert cut([{"item_id": "a", "text": TEXT}], Chat(), with_tokenizer=chatty)[1].is_empty()


def test_a_tokenizer_without_a_template_is_refused_in_one_sentence(cut) -> None:
    rows = [{"item_id": "a", "prefix": "Who rang?", "suffix": " The miller."}]
    with pytest.raises(CheckpointError, match="chat = true, and the tokenizer has no chat template"):
        cut(rows, Chat())
