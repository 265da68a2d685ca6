"""What names of checkpoints say: the number, its unit, and the text around it; values read by hand."""

from fractions import Fraction

import pytest

from memprobe.checkpoints.names import labels_of, read_last_number, read_name, read_order, stage_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step-900K", 900_000),
        ("step-1M", 1_000_000),
        ("step4k", 4_000),
        ("step2B", 2 * 10**9),
        ("step2G", 2 * 10**9),
        ("step1.5T", 1_500_000_000_000),
        ("epoch1.5", Fraction(3, 2)),
        ("epoch2.0", 2),
        ("lc-4k-to-32k-step-4000", 4_000),
        ("step1000Kb", 1_000),
        ("step1000b", 1_000),
        ("step5_K", 5),
        ("step1e4", 10_000),
        ("step2.5e3", 2_500),
        ("step-1e6-hf", 1_000_000),
        ("step1,000", 1_000),
        ("step12,000,000", 12_000_000),
        # Words and lists behind a number are no part of it.
        ("step1000e2", 1_000),
        ("step1eval", 1),
        ("step1e3b", 1),
        ("step1000,2", 1_000),
        ("step٣", None),
    ],
)
def test_a_unit_letter_multiplies(name: str, value: int | None) -> None:
    named = read_name(name)
    assert (None if named is None else named.value) == value


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("step1000", "step*", "step"),
        ("step_001000", "step*", "step"),
        ("global_step7", "global_step*", "global"),
        ("stage1-step1000", "stage1-step*", "stage1"),
        ("stage1-step1000-tokens5B", "stage1-step*", "stage1"),
        ("stage2-ingredient1-step11931-tokens100B", "stage2-ingredient1-step*", "stage2-ingredient1"),
        ("step1000-5Btokens", "step*", "step"),
        ("epoch=3-step=1000-val_loss=0.53", "step*", "step"),
        ("lc-4k-to-32k-step-4000", "lc-4k-to-32k-step*", "lc-4k-to-32k"),
        ("dpo-checkpoint-100-lr2", "dpo-checkpoint*-lr2", "dpo-lr2"),
        ("qwen-7B-step1000", "qwen-7B-step*", "qwen-7B"),
    ],
)
def test_the_text_is_the_name_without_its_counters(name: str, text: str, label: str) -> None:
    named = read_name(name)
    assert named is not None
    assert (named.text, named.label) == (text, label)


def test_other_counters_are_kept_by_their_words() -> None:
    named = read_name("epoch=3-step=1000-tokens4B")
    assert named is not None
    assert named.counters == (("epoch", 3), ("tokens", 4 * 10**9))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ckpt_007", 7),
        ("train_00220B", 220 * 10**9),
        ("amber-ckpt_10", 10),
        ("seed1", None),
        ("pythia-70m", None),
    ],
)
def test_some_words_give_an_order_and_no_step(name: str, value: int | None) -> None:
    named = read_order(name)
    assert (None if named is None else named.value) == value
    assert named is None or not named.counts
    assert read_name(name) is None


def test_the_last_number_is_a_whole_one() -> None:
    found = [read_last_number(name) for name in ("v1.9", "v1.10", "main")]
    assert [each and (each.value, each.text) for each in found] == [(9, "v1.*"), (10, "v1.*"), None]


def test_texts_that_share_a_label_are_labels_themselves() -> None:
    names = [read_name(name) for name in ("sft-step1", "sft-checkpoint-1", "dpo-step1")]
    assert labels_of(each for each in names if each) == {
        "sft-step*": "sft-step*",
        "sft-checkpoint*": "sft-checkpoint*",
        "dpo-step*": "dpo",
    }


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("stage1", ["a"]),
        ("stage2", ["b", "c"]),
        ("stage2-ingredient1", ["b"]),
        ("stage", []),
        ("a", ["a"]),
        ("stage1-", []),
    ],
)
def test_a_stage_is_named_whole_or_up_to_a_sign(value: str, texts: list[str]) -> None:
    labels = {"a": "stage1", "b": "stage2-ingredient1", "c": "stage2-ingredient2"}
    assert stage_of(value, labels) == texts
