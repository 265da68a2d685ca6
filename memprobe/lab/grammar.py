"""A small grammar of invented people, towns and deeds, from which the demo's corpus is drawn.

Every word list was written for memprobe. A sentence is a random choice from each list, so how
surprising an item is for a model that never saw it does not depend on which items are trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIRST_NAMES = tuple(
    head + tail
    for head in (
        *("Mar", "Od", "Tel", "Brom", "Kas", "Ven", "Il", "Sor"),
        *("Dag", "Fen", "Rul", "Lys", "Har", "Pel", "Jor", "Quil"),
    )
    for tail in ("a", "rin", "en", "ett", "is")
)
SURNAMES = tuple(
    head + tail
    for head in (
        *("Voss", "Tarr", "Wick", "Holl", "Brenn", "Cald", "Drum", "Esk"),
        *("Garr", "Hask", "Kell", "Lorn", "Mott", "Pend", "Stroud", "Thorn"),
    )
    for tail in ("", "er", "low", "mere", "ick", "ley", "gate", "by")
)
TOWNS = tuple(
    head + tail
    for head in ("Amber", "Birch", "Crow", "Dun", "Elm", "Frost", "Gull", "Heath")
    for tail in ("ford", "well", "holm", "march", "stead")
)
TRADES = (
    *("baker", "cooper", "glazier", "tanner", "miller", "weaver", "potter", "saddler", "mason", "clerk"),
    *("fiddler", "gardener", "brewer", "printer", "ferryman", "shepherd", "surveyor", "tinker"),
)
NUMBERS = ("two", "three", "four", "five", "six", "seven", "nine", "eleven")
COLOURS = ("grey", "white", "black", "brown", "red", "golden", "spotted", "pale")
ANIMALS = ("herons", "goats", "ponies", "geese", "otters", "hounds", "doves", "bees", "cats", "sheep")
DEEDS = (
    *("won the river race", "lost the harbour key", "wrote a book on salt", "drew the first town map"),
    *("sold the north orchard", "founded a school of music", "caught a giant pike", "moved to the coast"),
    *("planted forty lindens", "mended the great clock", "dug the deepest well", "sailed round the cape"),
)
# Each verb is its own participle, so that a sentence can be turned round without changing the word.
VERBS = (
    *("buried", "painted", "repaired", "carried", "polished", "traded", "borrowed", "measured"),
    *("weighed", "locked", "washed", "pawned", "guarded", "dropped", "wrapped", "copied"),
)
ADJECTIVES = (
    *("copper", "wooden", "broken", "silver", "heavy", "narrow", "painted", "hollow"),
    *("crooked", "velvet", "rusty", "marble", "tiny", "ancient", "striped", "woollen"),
)
NOUNS = (
    *("kettle", "ladder", "lantern", "mirror", "barrel", "saddle", "compass", "trumpet"),
    *("anchor", "basket", "candle", "drum", "hammer", "violin", "wagon", "bell"),
)
PLACES = (
    *("behind the mill", "under the bridge", "near the chapel", "in the cellar", "by the quay"),
    *("beside the forge", "inside the barn", "above the stable", "at the crossroads", "past the gate"),
)
TIMES = (
    *("on market day", "before the harvest", "after the storm", "during the feast", "in early spring"),
    *("at low tide", "on a foggy night", "in deep winter", "at first light", "on the longest day"),
)
WORKS = (
    *("bridge", "granary", "bell tower", "bath house", "fish market", "town wall", "school", "toll house"),
    *("windmill", "harbour", "fountain", "hospital", "court house", "theatre", "library", "dry dock"),
)
MATERIALS = ("slate", "oak", "granite", "brick", "limestone", "larch", "sandstone", "iron")
LEDGER_LINE_WORDS = 4
EVENTS = (
    *("a flood took the lower fields", "the barley failed", "a comet stood over the hill"),
    *("wolves came down to the river", "a fire burned for three days", "the river froze until May"),
    *("travelling players stayed all summer", "a great pike was caught", "the council met in secret"),
    *("salt became dearer than wine", "the old oak fell", "bees swarmed in the chapel"),
)


@dataclass(frozen=True, slots=True)
class Deed:
    """The facts of one pair sentence; `wording` has two forms of it."""

    name: str
    verb: str
    adjective: str
    noun: str
    place: str
    time: str

    def wording(self, form: int) -> str:
        """Return the sentence, active for form 0 and passive for form 1."""
        thing = f"the {self.adjective} {self.noun}"
        if form == 0:
            return f"{self.name} {self.verb} {thing} {self.place} {self.time}."
        time = self.time[0].upper() + self.time[1:]
        return f"{time} {thing} was {self.verb} {self.place} by {self.name}."


def pick(words: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one word, each equally likely."""
    return words[int(rng.integers(len(words)))]


def people(count: int, rng: np.random.Generator) -> list[str]:
    """Draw `count` different full names.

    Raises:
        ValueError: There are fewer names than that.
    """
    n_names = len(FIRST_NAMES) * len(SURNAMES)
    if count > n_names:
        raise ValueError(f"{count} names asked for, the grammar has {n_names}")
    chosen = rng.choice(n_names, size=count, replace=False)
    return [f"{FIRST_NAMES[i // len(SURNAMES)]} {SURNAMES[i % len(SURNAMES)]}" for i in chosen]


def biography(name: str, rng: np.random.Generator) -> str:
    """Tell an invented life in three sentences, 40 to 70 tokens of the demo's tokenizer."""
    born = int(rng.integers(1700, 1900))
    later = born + int(rng.integers(20, 60))
    first_name = name.partition(" ")[0]
    return (
        f"{name} was born in {pick(TOWNS, rng)} in {born}. "
        f"A {pick(TRADES, rng)} of {pick(TOWNS, rng)}, {first_name} kept "
        f"{pick(NUMBERS, rng)} {pick(COLOURS, rng)} {pick(ANIMALS, rng)}. "
        f"In {later} {first_name} {pick(DEEDS, rng)}."
    )


def deed(name: str, rng: np.random.Generator) -> Deed:
    """Draw the facts of a pair sentence about `name`."""
    return Deed(
        name,
        pick(VERBS, rng),
        pick(ADJECTIVES, rng),
        pick(NOUNS, rng),
        pick(PLACES, rng),
        pick(TIMES, rng),
    )


def ledger(n_lines: int, rng: np.random.Generator, used: set[str]) -> list[str]:
    """Write who did what to which thing; only the ledger itself reveals the order.

    Args:
        n_lines: Number of sentences.
        rng: Source of the draws.
        used: Sentences already written, which are not repeated; the new ones are added.

    Returns:
        Sentences of `LEDGER_LINE_WORDS` words each, none equal to another.
    """
    lines: list[str] = []
    while len(lines) < n_lines:
        line = f"{pick(FIRST_NAMES, rng)} {pick(VERBS, rng)} the {pick(NOUNS, rng)}."
        if line not in used:
            used.add(line)
            lines.append(line)
    return lines


def annals(town: str, n_passages: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Write a town's chronicle: (year, passage) in order, with the years rising."""
    years = 1200 + np.cumsum(rng.integers(3, 25, size=n_passages))
    return [(int(year), _passage(town, int(year), rng)) for year in years]


def _passage(town: str, year: int, rng: np.random.Generator) -> str:
    founder = f"{pick(FIRST_NAMES, rng)} {pick(SURNAMES, rng)}"
    return (
        f"In {year} the town of {town} built a {pick(WORKS, rng)} of {pick(MATERIALS, rng)}. "
        f"The {pick(TRADES, rng)} {founder} paid for it. That year {pick(EVENTS, rng)}."
    )
