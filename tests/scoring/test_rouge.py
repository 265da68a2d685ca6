"""ROUGE against hand counts, a brute-force subsequence search, and its symmetries."""

import itertools
import unicodedata

import numpy as np
import pytest

from memprobe.scoring.rouge import Rouge, longest_common_subsequence, rouge, words

CUE = "one two three four five six seven eight nine ten"
TRUE = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
UNRELATED = "red green blue black white brown pink gold grey cyan"


def test_a_right_cue_before_an_unrelated_suffix_scores_nothing() -> None:
    # methods.md, check 14: the cue counted too would give 10/20 = .5, 9/19 = .4736842 and .5.
    assert rouge(UNRELATED, TRUE) == Rouge(0.0, 0.0, 0.0)
    with_cue = rouge(f"{CUE} {UNRELATED}", f"{CUE} {TRUE}")
    assert with_cue == Rouge(0.5, pytest.approx(9 / 19), 0.5)


def test_counts_by_hand() -> None:
    # ours: the cat sat on the mat (6 words, 5 pairs); theirs: the cat lay on a mat (6, 5).
    # Words in common: the (once), cat, on, mat = 4 -> 8/12. Pairs: `the cat` = 1 -> 2/10.
    # Longest subsequence: the cat on mat = 4 -> 8/12.
    got = rouge("The cat sat on the mat.", "the cat lay on a mat")
    assert got == Rouge(pytest.approx(2 / 3), pytest.approx(0.2), pytest.approx(2 / 3))


def test_order_matters_to_l_alone_and_repetition_is_clipped() -> None:
    # c b a against a b c: all three words, no pair, a subsequence of 1 -> 2/6.
    assert rouge("c b a", "a b c") == Rouge(1.0, 0.0, pytest.approx(1 / 3))
    # a a a a against a: one word in common, precision 1/4, recall 1 -> F = 2 * .25 / 1.25 = .4.
    assert rouge("a a a a", "a").rouge1_f == pytest.approx(0.4)


def test_f_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # 2 of our 3 words, 2 of their 5: P = 2/3, R = 2/5 -> 2PR / (P + R) = .5.
    assert rouge("a b x", "a b c d e").rouge1_f == pytest.approx(0.5)


def test_equal_texts_score_one_and_case_and_marks_do_not_count() -> None:
    assert rouge("Don't stop, Ünïcode!", "don t STOP ünïcode") == Rouge(1.0, 1.0, 1.0)


def test_undefined_is_none_and_not_zero() -> None:
    assert rouge("", "") == Rouge(None, None, None)
    assert rouge("?!", " … ") == Rouge(None, None, None)
    assert rouge("word", "") == Rouge(0.0, None, 0.0)  # neither has a pair
    assert rouge("word", "word") == Rouge(1.0, None, 1.0)


def test_exchanging_the_texts_changes_nothing() -> None:
    pairs = itertools.permutations(["a b c a", "b a d", "a a", "x", "c a b d a"], 2)
    assert all(rouge(a, b) == rouge(b, a) for a, b in pairs)


def test_words_are_runs_of_letters_and_digits_in_any_script() -> None:
    assert words("Déjà_vu 48192: мост!") == ["déjà", "vu", "48192", "мост"]


def test_marks_stay_with_their_letters() -> None:
    # Cut at vowel signs and tones, different words would fall into the same letters.
    assert rouge("किताब", "कातिब") == Rouge(0.0, None, 0.0)
    acute, grave = (unicodedata.normalize("NFD", word) for word in ("má", "mà"))
    assert rouge(acute, grave).rouge1_f == 0
    assert rouge(acute, "má").rouge1_f == 1
    assert words("می\u200cخواهم") == ["می\u200cخواهم"]


@pytest.mark.parametrize(
    ("right", "wrong", "n_words"),
    [("今天天气很好我们去吃", "今天天气很好我们去喝", 10), ("วันนี้อากาศดีมาก", "วันนี้อากาศดีมาข", 12)],
)
def test_one_wrong_letter_of_a_script_without_spaces_costs_one_letter(right, wrong, n_words) -> None:
    assert len(words(right)) == n_words
    assert rouge(wrong, right).rouge1_f == pytest.approx((n_words - 1) / n_words)


def test_scripts_in_one_text_are_cut_apart() -> None:
    assert words("橋はABC漢字スーパー") == ["橋", "は", "abc", "漢", "字", "スー", "パー"]


def subsequences(a: list[str]) -> set[tuple[str, ...]]:
    return {part for n in range(len(a) + 1) for part in itertools.combinations(a, n)}


def test_the_longest_common_subsequence_is_that_of_a_search_over_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ([str(word) for word in rng.integers(0, 3, rng.integers(0, 8))] for _ in range(2))
        expected = max(len(part) for part in subsequences(a) & subsequences(b))
        assert longest_common_subsequence(a, b) == expected


def test_rouge_2_needs_a_pair_in_one_of_the_texts() -> None:
    for one, two in (("word", "word"), ("word", "other"), ("", "word"), ("", "")):
        assert rouge(one, two).rouge2_f is None
    # One of them has a pair, the other none: nothing in common, which is known.
    assert rouge("word", "word word").rouge2_f == rouge("word word", "word").rouge2_f == 0
    assert rouge("", "two words").rouge2_f == 0
    assert rouge("two words", "two words").rouge2_f == 1
