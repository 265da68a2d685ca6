"""ROUGE-1, ROUGE-2 and ROUGE-L between a generated and a true suffix, the cue left out.

Words are runs of letters and digits with the marks that belong to them, lowercased and composed (NFC). In
scripts that are written without spaces each letter with its marks is a word, as a run of them would make
one wrong letter cost a whole sentence. F is the harmonic mean of precision and recall; of two texts without
words it is undefined, and so is ROUGE-2 where neither text has two words.

References: Lin (2004), ROUGE: A Package for Automatic Evaluation of Summaries, sections 2 and 3; Unicode
Standard Annex 29, sections 3 and 4, for letters with their marks and for scripts without spaces.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass

import regex

_WITHOUT_SPACES = "".join(
    rf"\p{{Script={name}}}"
    for name in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi"),
        *("Thai", "Lao", "Khmer", "Myanmar", "Tai_Tham", "Tai_Le", "New_Tai_Lue", "Tibetan"),
    )
)
# Joiners stand inside words of Persian and of Indian scripts; Katakana's long mark belongs to no script.
_IN_WORD = r"\p{M}\u200c\u200d"
_WORD = regex.compile(
    rf"[[\p{{L}}\p{{N}}]&&[{_WITHOUT_SPACES}]][{_IN_WORD}\u30fc]*"
    rf"|[[\p{{L}}\p{{N}}]--[{_WITHOUT_SPACES}]](?:[[\p{{L}}\p{{N}}]--[{_WITHOUT_SPACES}]]|[{_IN_WORD}])*",
    regex.VERSION1,
)


@dataclass(frozen=True, slots=True)
class Rouge:
    """F scores from 0 to 1; None where neither text has what is counted."""

    rouge1_f: float | None
    rouge2_f: float | None
    rougeL_f: float | None  # noqa: N815


def rouge(generated: str, true: str) -> Rouge:
    """Return the three F scores of `generated` against `true`."""
    ours, theirs = words(generated), words(true)
    return Rouge(
        rouge1_f=_ngram_f(ours, theirs, 1),
        rouge2_f=_ngram_f(ours, theirs, 2),
        rougeL_f=_f(longest_common_subsequence(ours, theirs), len(ours), len(theirs)),
    )


def words(text: str) -> list[str]:
    """Return the words of a text, lowercased and composed."""
    return list(_WORD.findall(unicodedata.normalize("NFC", text.lower())))


def longest_common_subsequence(a: list[str], b: list[str]) -> int:
    """Return the length of the longest common subsequence of two lists of words."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, start=1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]


def _ngram_f(ours: list[str], theirs: list[str], n: int) -> float | None:
    mine, other = (Counter(zip(*(text[i:] for i in range(n)), strict=False)) for text in (ours, theirs))
    return _f((mine & other).total(), mine.total(), other.total())


def _f(n_common: int, n_ours: int, n_theirs: int) -> float | None:
    if n_ours + n_theirs == 0:
        return None
    return 2 * n_common / (n_ours + n_theirs)
