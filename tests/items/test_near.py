"""Near copies. Rungs: Jaccard by hand, a search over all pairs in the test, what must not be there, speed."""

import time

import numpy as np
import polars as pl
import pytest

from memprobe.items import inspect_items
from memprobe.items.near import JACCARD, near_copies
from memprobe.items.preview import preview

WORDS = [f"w{n}" for n in range(40)]


def table(texts, **columns) -> pl.DataFrame:
    n = len(texts)
    given = {"item_id": [f"i{k:05d}" for k in range(n)], "text": texts, **columns}
    schema = dict.fromkeys(("item_id", "doc_id", "text", "prefix", "suffix", "content_hash"), pl.String)
    full = {name: given.get(name, [None] * n) for name in schema}
    full["content_hash"] = given["item_id"]
    ids = pl.Series("input_ids", columns.get("input_ids", [None] * n), dtype=pl.List(pl.Int64))
    return pl.DataFrame(full, schema=schema).with_columns(ids)


def jaccard(one: str, two: str) -> float:
    sets = []
    for text in (one, two):
        words = text.lower().split()
        k = min(5, len(words))
        sets.append({tuple(words[i : i + k]) for i in range(len(words) - k + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_one_changed_word_in_the_middle_of_twenty_is_a_near_copy_and_two_apart_are_not() -> None:
    words = WORDS[:20]
    once, twice = words.copy(), words.copy()
    once[9] = "other"
    twice[6], twice[13] = "other", "others"
    texts = [" ".join(each) for each in (words, once, twice)]
    # 16 runs of five; one changed word costs 5 of them: 11 / 21. Two cost 10: 6 / 26.
    assert jaccard(texts[0], texts[1]) == 11 / 21 > JACCARD
    assert jaccard(texts[0], texts[2]) == 6 / 26 < JACCARD
    assert near_copies(table(texts)) == [["i00000", "i00001"]]


def test_case_and_white_space_and_texts_of_few_words() -> None:
    texts = ["The  cat sat", "the cat\nSAT", "the cat", "cat the", "...", "!", ""]
    assert near_copies(table(texts)) == [["i00000", "i00001"]]


def test_exact_copies_are_listed_elsewhere_and_once_here() -> None:
    text = " ".join(WORDS[:20])
    assert near_copies(table([text, text])) == []
    assert near_copies(table([text, text, text + " more"])) == [["i00000", "i00002"]]


def test_items_of_one_document_are_one_cluster_already() -> None:
    texts = [" ".join(WORDS[k : k + 20]) for k in range(3)]
    assert near_copies(table(texts, doc_id=["d", "d", "d"])) == []
    assert near_copies(table(texts, doc_id=["d", "d", "e"])) == [["i00000", "i00001", "i00002"]]
    assert near_copies(table(texts)) == [["i00000", "i00001", "i00002"]]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    text = "今天天气很好我们去公园散步吃饭回家睡觉明天再来"
    assert near_copies(table([text, text[:11] + "山" + text[12:], text[::-1]])) == [["i00000", "i00001"]]


def test_token_ids_are_compared_with_token_ids() -> None:
    ids = list(range(100, 130))
    frame = table([None, None, None], input_ids=[ids, [*ids, 7], ids[::-1]])
    assert near_copies(frame) == [["i00000", "i00001"]]


@pytest.mark.parametrize("seed", range(15))
def test_pairs_are_those_of_a_search_over_all(seed) -> None:
    rng = np.random.default_rng(seed)
    bases = [[str(w) for w in rng.choice(WORDS, rng.integers(3, 30))] for _ in range(8)]
    texts = []
    for _ in range(14):
        words = list(bases[rng.integers(len(bases))])
        for _ in range(rng.integers(0, 3)):
            words[rng.integers(len(words))] = str(rng.choice(WORDS))
        texts.append(" ".join(words))
    texts = list(dict.fromkeys(texts))
    group = list(range(len(texts)))
    for i, one in enumerate(texts):
        for j, two in enumerate(texts):
            if jaccard(one, two) >= JACCARD:
                group = [min(group[i], group[j]) if g in (group[i], group[j]) else g for g in group]
    expected = [[f"i{k:05d}" for k, g in enumerate(group) if g == first] for first in sorted(set(group))]
    assert sorted(near_copies(table(texts))) == [names for names in expected if len(names) > 1]


def test_no_items_and_no_texts_are_no_near_copies() -> None:
    assert near_copies(table([])) == []
    assert near_copies(table([None], input_ids=[[]])) == []


def test_the_check_lists_them_with_the_measure(write) -> None:
    text = " ".join(WORDS[:20])
    rows = [
        {"item_id": "a", "text": text},
        {"item_id": "b", "text": text + " end"},
        {"item_id": "c", "text": "x"},
    ]
    found = inspect_items([write("a.jsonl", rows)])
    near = preview(found.table, found.given)["near_copies"]
    assert near == {"measure": "5-grams of words, Jaccard 0.5 or more", "groups": [["a", "b"]]}


@pytest.mark.slow
def test_twenty_thousand_items_and_a_template_in_all_of_them_take_seconds() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{n}" for n in range(20_000)])
    rest = vocabulary[rng.integers(0, len(vocabulary), (20_000, 60))]
    template = " ".join(vocabulary[:40])
    began = time.process_time()
    assert near_copies(table([f"{template} {' '.join(row)}" for row in rest])) == []
    assert time.process_time() - began < 20
