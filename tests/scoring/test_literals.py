"""Special tokens in items: those that stand twice in front, and those that a text spells."""

import pytest

from memprobe.scoring.load import Limits
from memprobe.scoring.tokenise import tokenise

LIMITS = Limits(None, 400, 0, "float32")


def counts(made) -> tuple[int, int]:
    return made.literals.n_begin, made.literals.n_spell


@pytest.mark.parametrize(
    ("row", "bos", "expected"),
    [
        ({"text": "the heron"}, "default", (0, 0)),
        ({"text": "<s>the heron"}, "default", (1, 0)),
        ({"text": "<s>the heron"}, "none", (0, 1)),
        ({"prefix": "<s>the", "suffix": " heron"}, "default", (1, 0)),
        ({"text": "the heron", "foil": "<s>the barge"}, "default", (1, 0)),
        ({"text": "<s>the</s> heron"}, "default", (1, 1)),
        ({"text": "the <s> heron"}, "default", (0, 1)),
        ({"input_ids": [0, 20, 30]}, "default", (0, 0)),
        ({"input_ids": [0, 20, 30]}, "forced", (1, 0)),
        ({"input_ids": [20, 0, 1]}, "forced", (0, 0)),
    ],
)
def test_items_that_hold_special_tokens_are_counted(items, make_tokenizer, row, bos, expected) -> None:
    made = tokenise(items([dict(item_id="a", **row)]), make_tokenizer(), bos=bos, limits=LIMITS)
    assert counts(made) == expected
    assert len(made.literals.notes) == sum(n > 0 for n in expected)


def test_ids_without_a_tokenizer_are_counted_too(items) -> None:
    made = tokenise(items([{"item_id": "a", "input_ids": [0, 20]}]), None, bos="forced", limits=LIMITS)
    assert counts(made) == (1, 0)
    assert "`id 0`" in made.literals.notes[0]


def test_the_sentences_name_counts_and_tokens(items, tokenizer) -> None:
    rows = [{"item_id": f"i{n}", "text": text} for n, text in enumerate(["<s>a", "<s>b", "c</s>", "d"])]
    made = tokenise(items(rows), tokenizer, bos="default", limits=LIMITS)
    assert made.literals.notes == (
        "2 items begin with `<s>`, which is put in front of each as well: the token is given twice "
        "(--bos none puts none in front)",
        "1 item spells a special token (`</s>`): it is read as that token, not as its letters",
    )
