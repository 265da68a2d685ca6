"""Read the step, the unit of its number and the text around it from a checkpoint's name.

`stage2-ingredient1-step1000-tokens5B` has the step 1000 and the text `stage2-ingredient1-step*`. Other
counters of training (tokens, epochs, ...) are not part of the text, because they rise with the step.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

# Words for time, which a number follows: `global_step1000`, `iter_0001000`, `stage2-step8`.
_STEP_WORDS = ("step", "checkpoint", "iter", "epoch")
# Words whose number orders checkpoints but does not count updates, so that positions are the steps.
_ORDER_WORDS = ("ckpt", "chkpt", "train", "tokens", "token", "iteration", "iterations", "update", "updates")
_COUNTERS = (*_STEP_WORDS, "tokens", "token", "tok", "samples", "sample", "updates", "update")
# Measurements of a checkpoint, which may rise or fall.
_MEASURED = ("loss", "ppl", "acc")
_POWERS = {"K": 3, "M": 6, "B": 9, "G": 9, "T": 12}
# Lower-case letters are units only if unambiguous: `4k`, `1m`; `step1000b` is not 1000 billion steps.
# `1e4` and `1,000` are each one number, not step 1; `step1000e2` is read as 1000.
_WRITTEN = r"[0-9](?:\.[0-9]+)?[eE][0-9]{1,2}(?![A-Za-z0-9])|[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])"
_NUMBER = rf"({_WRITTEN}|[0-9]+(?:\.[0-9]+)?)(?:([KMBGTkm])(?![A-Za-z0-9]))?"
_SIGNS = "-_=.,+ "


def _after_word(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z])((?i:{'|'.join(words)}))[-_=]?{_NUMBER}")


_STEP_PATTERNS = tuple(_after_word([word]) for word in _STEP_WORDS)
_ORDER_PATTERN = _after_word(_ORDER_WORDS)
_COUNTER = re.compile(
    rf"[-_=.,]*(?:(?<![A-Za-z])((?i:{'|'.join(_COUNTERS)}))[-_=]?{_NUMBER}"
    rf"|(?<![A-Za-z0-9.])([0-9]+(?:\.[0-9]+)?)([KMBGTkm]?)[-_]?((?i:tokens?))(?![A-Za-z0-9]))"
)
_MEASURE = re.compile(
    rf"[-_=.,]*(?<![A-Za-z])(?:[A-Za-z]+[-_])?(?:{'|'.join(_MEASURED)})[-_=]?[0-9]+(?:\.[0-9]+)?",
    re.IGNORECASE,
)
_LAST_NUMBER = re.compile(r"([0-9]+)(?:([KMBGTkm])(?![A-Za-z0-9]))?(?!.*[0-9])")


@dataclass(frozen=True, slots=True)
class Named:
    """The step and stage that a checkpoint's name contains.

    Attributes:
        value: The number, multiplied by its unit: `1M` is 1,000,000; `1.5` stays a fraction.
        text: The name with `*` for the number, without other counters and measurements.
        label: The text without the word for time and `*`; that word if nothing else is left.
        counts: Whether the number counts steps; otherwise it only gives the order.
        counters: The other counters, as pairs of word and number.
    """

    value: Fraction
    text: str
    label: str
    counts: bool
    counters: tuple[tuple[str, Fraction], ...] = ()


def read_name(name: str) -> Named | None:
    """Return the number after `step`, `checkpoint`, `iter` or `epoch` and the text around it, or None.

    If several of these words have a number (`epoch=3-step=1000`), the first word of this list wins.
    """
    for pattern in _STEP_PATTERNS:
        if match := pattern.search(name):
            return _around(name, match, counts=True)
    return None


def read_order(name: str) -> Named | None:
    """Return the number of a name like `ckpt_007` or `train_00220B`, which is not a step, or None."""
    match = _ORDER_PATTERN.search(name)
    return _around(name, match, counts=False) if match else None


def read_last_number(name: str) -> Named | None:
    """Return the last whole number of a name and the text around it, or None."""
    match = _LAST_NUMBER.search(name)
    if match is None:
        return None
    text = f"{name[: match.start()]}*{name[match.end() :]}"
    return Named(_value(match[1], match[2]), text, _label([text.replace("*", "")], text), counts=False)


def _around(name: str, match: re.Match[str], *, counts: bool) -> Named:
    word, number, unit = match.groups()
    counters: list[tuple[str, Fraction]] = []

    def without(text: str) -> str:
        for found in _COUNTER.finditer(text):
            kind, value, letter, before, its_unit, behind = found.groups()
            counters.append(((kind or behind).lower(), _value(value or before, letter or its_unit)))
        return _MEASURE.sub("", _COUNTER.sub("", text))

    before = without(name[: match.start()]).lstrip(_SIGNS)
    after = without(name[match.end() :]).rstrip(_SIGNS)
    text = f"{before}{word.lower()}*{after}"
    return Named(_value(number, unit), text, _label([before, after], word), counts, tuple(counters))


def _label(parts: Sequence[str], otherwise: str) -> str:
    kept = [part.strip(_SIGNS) for part in parts]
    return "-".join(part for part in kept if part) or otherwise


def _value(number: str, unit: str | None) -> Fraction:
    power = Fraction(f"1e{_POWERS.get((unit or '').upper(), 0)}")
    return Fraction(number.replace(",", "")) * power


def labels_of(names: Iterable[Named]) -> dict[str, str]:
    """Return the label of each text, in the order of the names.

    Texts that would share a label are used as labels themselves.
    """
    by_text = {each.text: each.label for each in names}
    times = Counter(by_text.values())
    return {text: label if times[label] == 1 else text for text, label in by_text.items()}


def stage_of(value: str, labels: Mapping[str, str]) -> list[str]:
    """Return the texts that one value of `--stages` names.

    A value that equals a label or text names only it. Otherwise it names all labels that begin with it
    and a separator: `stage2` names `stage2-ingredient1`.
    """
    if exact := [text for text, label in labels.items() if value in (label, text)]:
        return exact
    return [
        text
        for text, label in labels.items()
        if label.startswith(value) and label[len(value) : len(value) + 1] in tuple(_SIGNS)
    ]
