"""Cuts against hand arithmetic, a loop over all borders, and slices of hostile text.

Rungs: hand values above the assertions; a slow recomputation of token windows; invariances (order, other
documents, the draw); undefined cases.
"""

import numpy as np
import pytest

from memprobe.documents import Cut, cut_documents
from memprobe.errors import InputError, ItemError

# Combining marks, an emoji of several code points, CRLF, a mark in the middle, U+2028, no final line end.
HOSTILE = (
    "e\u0301tude 👩\u200d🚀 nai\u0308ve\r\n\r\n\ufeffmiddle\u2028漢字 и́ “Quote?” \x00 tab\t𝔘𝔫𝔦 "
    "e\u0301\u0302\u0303 done. The end"
)


def byte_offsets(text: str) -> np.ndarray:
    """One token per byte of UTF-8, each covering its whole character, as byte-level tokenizers say."""
    return np.array([(i, i + 1) for i, char in enumerate(text) for _ in char.encode()]).reshape(-1, 2)


def rows(done) -> list[dict]:
    return done.items.to_dicts()


def test_words_are_cut_by_hand(documents) -> None:
    # 0123456789012345678901234
    # one two  three four five six   words at 0-3, 4-7, 9-14, 15-19, 20-24, 25-28
    done = cut_documents(documents(d="one two  three four five six"), Cut("words", prefix=2, suffix=1))
    assert rows(done) == [
        {
            **{"item_id": "d-0", "prefix": "one two", "suffix": "  three", "doc_id": "d"},
            **{"start_char": 0, "border_char": 7, "end_char": 14},
        },
        {
            **{"item_id": "d-15", "prefix": "four five", "suffix": " six", "doc_id": "d"},
            **{"start_char": 15, "border_char": 24, "end_char": 28},
        },
    ]
    # The blank between the two windows is in none.
    assert done.coverage.to_dicts() == [
        {"name": "d", "n_windows": 2, "n_chars": 28, "n_covered_chars": 27, "n_tail_chars": 0}
    ]


def test_windows_that_overlap_cover_each_character_once(documents) -> None:
    done = cut_documents(documents(d="0123456789"), Cut("chars", window=4, stride=3))
    assert done.items["text"].to_list() == ["0123", "3456", "6789"]
    assert done.coverage["n_covered_chars"].item() == 10
    done = cut_documents(documents(d="0123456789"), Cut("chars", window=4, stride=5))
    # 0-4 and 5-9: character 4 lies between, character 9 behind.
    assert done.items["text"].to_list() == ["0123", "5678"]
    assert done.coverage.select("n_covered_chars", "n_tail_chars").row(0) == (8, 1)


def test_without_a_stride_windows_do_not_overlap(documents) -> None:
    done = cut_documents(documents(d="abcdefg"), Cut("chars", prefix=1, suffix=2))
    assert done.items["start_char"].to_list() == [0, 3]


def test_sentences_are_cut_whole(documents) -> None:
    done = cut_documents(documents(d="Mr. A ran. B sat! C? Tail"), Cut("sentences", prefix=1, suffix=2))
    assert rows(done)[0]["prefix"] == "Mr. A ran."
    assert rows(done)[0]["suffix"] == " B sat! C?"
    assert done.coverage["n_tail_chars"].item() == len(" Tail")


@pytest.mark.parametrize("by", ["tokens", "words", "chars", "sentences"])
@pytest.mark.parametrize("sizes", [{"prefix": 1, "suffix": 1}, {"prefix": 2, "suffix": 3}, {"window": 2}])
@pytest.mark.parametrize("stride", [1, 2, None])
def test_every_item_is_the_very_slice_of_the_source(by, sizes, stride, documents) -> None:
    text = HOSTILE * 3
    done = cut_documents(documents(d=text), Cut(by, **sizes, stride=stride), offsets=byte_offsets)
    for row in rows(done):
        whole = row["text"] if "text" in row else row["prefix"] + row["suffix"]
        assert whole == text[row["start_char"] : row["end_char"]]
        assert row["item_id"] == f"d-{row['start_char']}"
        if "prefix" in row:
            assert row["prefix"] == text[row["start_char"] : row["border_char"]]
            assert row["prefix"]
            assert row["suffix"]
    assert done.items["item_id"].is_unique().all()


def slow_token_windows(text: str, prefix: int, suffix: int, stride: int) -> set[tuple[int, int, int]]:
    """Move each border on, token by token, until no token reaches over it."""
    spans = byte_offsets(text).tolist()

    def moved(j: int) -> int:
        while 0 < j < len(spans) and spans[j][0] < spans[j - 1][1]:
            j += 1
        return j

    found = set()
    for first in range(0, len(spans) - prefix - suffix + 1, stride):
        start = moved(first)
        border = moved(start + prefix) if start + prefix <= len(spans) else None
        stop = moved(border + suffix) if border is not None and border + suffix <= len(spans) else None
        if border is not None and stop is not None:
            found.add((spans[start][0], spans[border - 1][1], spans[stop - 1][1]))
    return found


@pytest.mark.parametrize(("prefix", "suffix", "stride"), [(1, 1, 1), (3, 2, 1), (5, 4, 7), (10, 10, 3)])
def test_token_windows_equal_a_loop_over_borders(prefix, suffix, stride, documents) -> None:
    done = cut_documents(
        documents(d=HOSTILE), Cut("tokens", prefix=prefix, suffix=suffix, stride=stride), offsets=byte_offsets
    )
    found = set(done.items.select("start_char", "border_char", "end_char").iter_rows())
    assert found == slow_token_windows(HOSTILE, prefix, suffix, stride)
    assert len(found) > 1


def test_a_border_inside_a_character_takes_the_character_in(documents) -> None:
    # Bytes: a 1, é 2, 漢 3, b 1. A prefix of 2 tokens ends inside é, so it takes é; a suffix of 1 then
    # begins 漢 and takes it.
    done = cut_documents(
        documents(d="aé漢b"), Cut("tokens", prefix=2, suffix=1, stride=99), offsets=byte_offsets
    )
    assert done.items.select("prefix", "suffix").row(0) == ("aé", "漢")


def test_tokens_that_stand_for_no_character_make_no_empty_part(documents) -> None:
    spans = np.array([(0, 0), (0, 1), (1, 2), (2, 3)])
    done = cut_documents(
        documents(d="abc"), Cut("tokens", prefix=1, suffix=1, stride=1), offsets=lambda _: spans
    )
    assert done.items.select("prefix", "suffix").rows() == [("a", "b"), ("b", "c")]


def test_two_windows_that_begin_at_one_character_are_one(documents) -> None:
    spans = np.array([(0, 0), (0, 1), (1, 2), (2, 3)])
    cut = Cut("tokens", prefix=2, suffix=1, stride=1)
    done = cut_documents(documents(d="abc"), cut, offsets=lambda _: spans)
    # From token 0: a, b. From token 1, which begins at character 0 too: ab, c.
    assert done.items.select("item_id", "prefix", "suffix").rows() == [("d-0", "a", "b")]


def test_names_depend_on_the_document_alone(documents) -> None:
    cut = Cut("words", prefix=1, suffix=1)
    alone = cut_documents(documents(d="one two three four"), cut).items
    among = cut_documents(documents(z="x y z", d="one two three four", a="p q"), cut).items
    turned = cut_documents(documents(a="p q", d="one two three four", z="x y z"), cut).items
    assert among.filter(among["doc_id"] == "d").equals(alone)
    assert among.sort("item_id").equals(turned.sort("item_id"))


def test_a_draw_is_uniform_seeded_and_part_of_all(documents) -> None:
    source = documents(a="a b c d e f g h", empty="x", b="i j k l")
    everything = cut_documents(source, Cut("words", window=1)).items
    drawn = cut_documents(source, Cut("words", window=1, n=6, seed=3)).items
    assert drawn.height == 6
    assert set(drawn["item_id"]) < set(everything["item_id"])
    assert drawn.equals(cut_documents(source, Cut("words", window=1, n=6, seed=3)).items)
    counts = np.zeros(everything.height)
    for seed in range(400):
        found = cut_documents(source, Cut("words", window=1, n=6, seed=seed)).items["item_id"]
        counts += everything["item_id"].is_in(found.to_list()).to_numpy()
    # 400 draws of 6 of 13: 184.6 each, standard deviation 10; five of them are never left by chance.
    assert abs(counts - 400 * 6 / 13).max() < 50


def test_what_a_document_carries_goes_to_each_window(tmp_path) -> None:
    from memprobe.documents import read_documents

    file = tmp_path / "d.jsonl"
    file.write_text(
        '{"item_id": "p", "text": "a b", "group": "g", "first_step": 7}\n{"item_id": "q", "text": "c d"}'
    )
    done = cut_documents(read_documents([str(file)]), Cut("words", window=1))
    assert done.items.select("item_id", "group", "first_step").rows() == [
        ("p-0", "g", 7),
        ("p-2", "g", 7),
        ("q-0", None, None),
        ("q-2", None, None),
    ]


GUTENBERG = (
    "front *** START OF THE PROJECT GUTENBERG EBOOK X *** a b *** END OF THE PROJECT GUTENBERG EBOOK X ***"
)


def test_gutenberg_matter_is_left_out_and_offsets_stay_those_of_the_file(documents) -> None:
    done = cut_documents(documents(d=GUTENBERG), Cut("words", window=1, gutenberg=True))
    assert done.items["text"].to_list() == ["a", "b"]
    start = GUTENBERG.index(" a b ") + 1
    assert done.items["start_char"].to_list() == [start, start + 2]
    assert done.coverage["n_chars"].item() == 3
    assert done.notes == ()


def test_gutenberg_matter_that_stays_and_marks_that_are_not_there_are_told(documents) -> None:
    stays = cut_documents(documents(d=GUTENBERG), Cut("words", window=1)).notes
    assert stays == ("front or back matter of Project Gutenberg, which --gutenberg leaves out: d",)
    absent = cut_documents(documents(d="a b"), Cut("words", window=1, gutenberg=True)).notes
    assert absent == ("no marks of Project Gutenberg, cut as a whole: d",)


def test_documents_that_are_too_short_are_told_and_all_of_them_are_an_error(documents) -> None:
    done = cut_documents(documents(long="a b c", short="a"), Cut("words", window=2))
    assert done.notes == ("1 of 2 documents are too short for a window of 2 words: short",)
    with pytest.raises(ItemError, match="no document is long enough for a window of 2 words"):
        cut_documents(documents(short="a", none=" "), Cut("words", window=2))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, "a cut is a prefix with a suffix, or a window"),
        ({"prefix": 5}, "a cut is a prefix with a suffix, or a window"),
        ({"prefix": 5, "suffix": 5, "window": 5}, "a cut is a prefix with a suffix, or a window"),
        ({"prefix": 5, "suffix": 0}, "--suffix is 0, not 1 or more"),
        ({"window": 5, "stride": 0}, "--stride is 0, not 1 or more"),
        ({"window": 5, "n": -1}, "--n is -1, not 1 or more"),
    ],
)
def test_a_cut_that_cannot_be_says_why(flags, told) -> None:
    with pytest.raises(InputError, match=told):
        Cut("words", **flags)


def test_more_windows_than_there_are_cannot_be_drawn(documents) -> None:
    with pytest.raises(ItemError, match="--n asks for 9 windows, and there are 2"):
        cut_documents(documents(d="a b"), Cut("words", window=1, n=9))


def test_tokens_need_a_tokenizer(documents) -> None:
    with pytest.raises(InputError, match="a tokenizer is needed"):
        cut_documents(documents(d="a b"), Cut("tokens", window=1))


def test_a_carried_column_of_a_made_name_is_refused(tmp_path) -> None:
    from memprobe.documents import read_documents

    (tmp_path / "d.jsonl").write_text('{"text": "a b", "start_char": 0}')
    with pytest.raises(ItemError, match="the cut writes a column of this name"):
        cut_documents(read_documents([str(tmp_path / "d.jsonl")]), Cut("words", window=1))
