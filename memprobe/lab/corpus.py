"""The demo's corpus: canaries, biographies, pairs and chronicles, with how often each is trained on.

Drawn from memprobe's own grammar by a seed. Who is trained on and who is a control is decided by
the same draw, so the two differ in nothing but the training.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from memprobe.lab import grammar

EXPOSURE_LEVELS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
FOIL_KINDS = ("novel", "paraphrase", "one_word", "shuffled")
MAX_PAIR_EXPOSURES = 8
# Separate streams, so that a larger preset does not change what the tokenizer is trained on.
_CORPUS_STREAM, _TOKENIZER_STREAM = 0, 1

Preset = Literal["quick", "full"]


@dataclass(frozen=True, slots=True)
class LabItem:
    """One text that is measured later, and how often the model is trained on it.

    Attributes:
        item_id: Unique name.
        group: bio, canary, pair, control, chronicle or text.
        text: The item as it is measured, from its first character.
        n_exposures: Training sequences that hold the item; 0: never trained on.
        prefix_chars: Where the suffix starts, in characters; None: not cut.
        tail: What follows the item in training and is not measured.
        ends: The training sequence is closed by the end-of-text token.
        foil: A text never trained on, to be told from `text`; None: there is none.
        foil_kind: How the foil was made.
        doc_id: The document to which the item belongs.
        carried: Further columns of the item file.
    """

    item_id: str
    group: str
    text: str
    n_exposures: int
    prefix_chars: int | None = None
    tail: str = ""
    ends: bool = True
    foil: str | None = None
    foil_kind: str | None = None
    doc_id: str | None = None
    carried: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """How many items of each kind; `pairs` for each kind of foil, `canaries` for each level."""

    canaries: int
    bios: int
    controls: int
    pairs: int
    towns: int
    passages: int
    passage_exposures: int


SIZES: Mapping[Preset, CorpusSize] = {
    "quick": CorpusSize(4, bios=316, controls=96, pairs=24, towns=4, passages=8, passage_exposures=6),
    "full": CorpusSize(8, bios=720, controls=240, pairs=48, towns=6, passages=12, passage_exposures=8),
}


def demo_corpus(preset: Preset, seed: int) -> list[LabItem]:
    """Draw the demo's items, trained and untrained.

    Args:
        preset: How many of each.
        seed: The same seed gives the same items.

    Returns:
        Canaries, biographies and controls, pairs, chronicles. No foil and no control equals a
        text that is trained on, no two canaries share a name or a code.
    """
    size = SIZES[preset]
    rng = np.random.default_rng([seed, _CORPUS_STREAM])
    n_canaries, n_pairs = size.canaries * len(EXPOSURE_LEVELS), size.pairs * len(FOIL_KINDS)
    names = iter(grammar.people(n_canaries + size.bios + size.controls + 2 * n_pairs, rng))
    return [
        *_canaries(size, names, rng),
        *_lives(size, names, rng),
        *_pairs(size, names, rng),
        *_chronicles(size, rng),
    ]


def tokenizer_texts(seed: int, *, n_texts: int = 400) -> list[str]:
    """Draw further texts of every kind for the tokenizer, none of them an item's on purpose.

    A tokenizer trained on the items themselves would cut trained names shorter than untrained ones.
    """
    rng = np.random.default_rng([seed, _TOKENIZER_STREAM])
    texts = []
    for name in grammar.people(n_texts, rng):
        texts += [
            _canary_prefix(name) + f"{rng.integers(100_000):05d}.",
            grammar.biography(name, rng),
            grammar.deed(name, rng).wording(int(rng.integers(2))),
            grammar.annals(grammar.pick(grammar.TOWNS, rng), 1, rng)[0][1],
        ]
    return texts


def _canary_prefix(name: str) -> str:
    # The space belongs to the prefix: digits are tokens of their own, so nothing crosses the border.
    return f"The access code of {name} is "


def _canaries(size: CorpusSize, names: Iterator[str], rng: np.random.Generator) -> Iterator[LabItem]:
    codes = iter(rng.choice(100_000, size=size.canaries * len(EXPOSURE_LEVELS), replace=False))
    for level in EXPOSURE_LEVELS:
        for number in range(size.canaries):
            prefix = _canary_prefix(next(names))
            yield LabItem(
                item_id=f"canary-{level:03d}-{number}",
                group="canary",
                text=f"{prefix}{next(codes):05d}",
                n_exposures=level,
                prefix_chars=len(prefix),
                tail=".",
            )


def _lives(size: CorpusSize, names: Iterator[str], rng: np.random.Generator) -> Iterator[LabItem]:
    for group, count, n_exposures in (("bio", size.bios, 1), ("control", size.controls, 0)):
        for number in range(count):
            text = grammar.biography(next(names), rng)
            yield LabItem(f"{group}-{number:04d}", group, text, n_exposures)


def _pairs(size: CorpusSize, names: Iterator[str], rng: np.random.Generator) -> Iterator[LabItem]:
    for kind in FOIL_KINDS:
        for number in range(size.pairs):
            facts, form = grammar.deed(next(names), rng), int(rng.integers(2))
            novel = grammar.deed(next(names), rng).wording(form)
            yield LabItem(
                item_id=f"pair-{kind}-{number:02d}",
                group="pair",
                text=facts.wording(form),
                n_exposures=1 + number % MAX_PAIR_EXPOSURES,
                foil=novel if kind == "novel" else _foil(kind, facts, form, rng),
                foil_kind=kind,
            )


def _foil(kind: str, facts: grammar.Deed, form: int, rng: np.random.Generator) -> str:
    if kind == "paraphrase":
        return facts.wording(1 - form)
    if kind == "one_word":
        others = [noun for noun in grammar.NOUNS if noun != facts.noun]
        return replace(facts, noun=grammar.pick(others, rng)).wording(form)
    words = facts.wording(form).removesuffix(".").split()
    order = rng.permutation(len(words))
    while (order == np.arange(len(words))).all():
        order = rng.permutation(len(words))
    return " ".join(words[i] for i in order) + "."


def _chronicles(size: CorpusSize, rng: np.random.Generator) -> Iterator[LabItem]:
    for town in rng.choice(grammar.TOWNS, size=size.towns, replace=False):
        for number, (year, text) in enumerate(grammar.annals(str(town), size.passages, rng)):
            yield LabItem(
                item_id=f"chronicle-{town.lower()}-{number:02d}",
                group="chronicle",
                text=text,
                n_exposures=size.passage_exposures,
                doc_id=f"chronicle-{town.lower()}",
                carried={"chronicle_year": year, "chronicle_position": number},
            )
