"""The demo's corpus: canaries, lives, pairs, chronicles, ledgers, tasks, and how often each is trained on.

It is drawn from memprobe's own grammar with a seed. The same draw decides which items are trained on and
which are controls, so the two differ only in the training.
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
_CORPUS_STREAM, _TOKENIZER_STREAM, _SEQUEL_STREAM = 0, 1, 5
LEDGER_LINES = 4
# How many lines one segment of a trial stands behind the other, in turn: a small model learns which line
# follows which, and next to nothing of those further apart.
LEDGER_DISTANCES = (1, 1, 2)
# Shares of the training, all at a checkpoint of the demo, with two more in each phase. Before the first the
# model learns the language, without which it learns no sentence by heart.
TASK_PHASES = ((1 / 7, 4 / 7), (4 / 7, 1.0))

Preset = Literal["quick", "full"]


@dataclass(frozen=True, slots=True)
class LabItem:
    """One text that is measured later, and how often the model is trained on it.

    Attributes:
        item_id: Unique name.
        group: bio, canary, pair, control, chronicle, ledger, new_ledger, task-<number> or text.
        text: The item as it is measured, from its first character.
        n_exposures: Number of training sequences with the item; 0: never trained on.
        prefix_chars: Where the suffix starts, in characters; None: not cut.
        tail: Text that follows the item in training and is not measured.
        ends: Whether the training sequence ends with the end-of-text token.
        foil: A text never trained on that is compared with `text`; None if there is none.
        foil_kind: How the foil was made.
        doc_id: The document to which the item belongs.
        carried: Further columns of the item file.
        phase: Part of the training with all exposures, from and to, each 0 to 1; None: all of it.
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
    phase: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """Number of items of each kind.

    `pairs` counts each kind of foil, `canaries` each level, `errands` each task; `ledgers` counts those
    trained on, and there are as many controls.
    """

    canaries: int
    bios: int
    controls: int
    pairs: int
    towns: int
    passages: int
    passage_exposures: int
    ledgers: int
    ledger_exposures: int
    errands: int
    errand_exposures: int


SIZES: Mapping[Preset, CorpusSize] = {
    "quick": CorpusSize(
        4,
        **{"bios": 316, "controls": 96, "pairs": 24, "towns": 4, "passages": 8, "passage_exposures": 6},
        **{"ledgers": 24, "ledger_exposures": 12, "errands": 10, "errand_exposures": 10},
    ),
    "full": CorpusSize(
        8,
        **{"bios": 720, "controls": 240, "pairs": 48, "towns": 6, "passages": 12, "passage_exposures": 8},
        **{"ledgers": 48, "ledger_exposures": 12, "errands": 20, "errand_exposures": 10},
    ),
}


def demo_corpus(preset: Preset, seed: int) -> list[LabItem]:
    """Draw the demo's items, trained and untrained.

    Args:
        preset: Number of items of each kind.
        seed: The same seed gives the same items.

    Returns:
        Canaries, biographies and controls, pairs, chronicles, ledgers, tasks. No foil and no control equals
        a text that is trained on, no two canaries share a name or a code.
    """
    size = SIZES[preset]
    rng = np.random.default_rng([seed, _CORPUS_STREAM])
    n_canaries, n_pairs = size.canaries * len(EXPOSURE_LEVELS), size.pairs * len(FOIL_KINDS)
    people = grammar.people(n_canaries + size.bios + size.controls + 2 * n_pairs, rng)
    names = iter(people)
    sequel = np.random.default_rng([seed, _SEQUEL_STREAM])
    return [
        *_canaries(size, names, rng),
        *_lives(size, names, rng),
        *_pairs(size, names, rng),
        *_chronicles(size, rng),
        *_ledgers(size, sequel),
        *_tasks(size, frozenset(people), sequel),
    ]


def tokenizer_texts(seed: int, *, n_texts: int = 400) -> list[str]:
    """Draw further texts of every kind for the tokenizer, none of them an item.

    A tokenizer trained on the items themselves would split trained names into fewer tokens than others.
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


def _ledgers(size: CorpusSize, rng: np.random.Generator) -> Iterator[LabItem]:
    """Yield SORT trials whose text does not reveal the order; half are never trained on."""
    used: set[str] = set()
    for group, n_exposures in (("ledger", size.ledger_exposures), ("new_ledger", 0)):
        for number in range(size.ledgers):
            lines = grammar.ledger(LEDGER_LINES, rng, used)
            turn, place = divmod(number, len(LEDGER_DISTANCES))
            name = f"{group}-{number:02d}"
            yield LabItem(
                item_id=name,
                group=group,
                text=" ".join(lines),
                n_exposures=n_exposures,
                doc_id=name,
                carried=_trial(name, lines, LEDGER_DISTANCES[place], rng) | {"earlier_first": turn % 2 == 0},
            )


def _trial(name: str, lines: list[str], apart: int, rng: np.random.Generator) -> dict[str, object]:
    """Return the columns of a SORT trial of two lines of a ledger, `apart` lines from each other."""
    earlier = int(rng.integers(len(lines) - apart))
    words = grammar.LEDGER_LINE_WORDS
    return {
        "source_id": name,
        "excerpt_id": "0",
        "segment_1": lines[earlier],
        "segment_2": lines[earlier + apart],
        "excerpt_words": len(lines) * words,
        "segment_words": words,
        "distance_words": apart * words,
        "distance_bin": apart - 1,
        "excerpt_start_frac": 0.0,
        "split": "test",
    }


def _tasks(size: CorpusSize, taken: frozenset[str], rng: np.random.Generator) -> Iterator[LabItem]:
    """Yield the evaluation sets of tasks that follow each other: who did what to which thing."""
    n_names = len(TASK_PHASES) * size.errands
    names = iter([name for name in grammar.people(len(taken) + n_names, rng) if name not in taken])
    for task, phase in enumerate(TASK_PHASES, start=1):
        for number in range(size.errands):
            facts = grammar.deed(next(names), rng)
            prefix = f"{facts.name} {facts.verb} the "
            thing = f"{facts.adjective} {facts.noun}"
            yield LabItem(
                item_id=f"task-{task}-{number:02d}",
                group=f"task-{task}",
                text=prefix + thing,
                n_exposures=size.errand_exposures,
                prefix_chars=len(prefix) - 1,
                tail=facts.wording(0).removeprefix(prefix + thing),
                phase=phase,
            )
