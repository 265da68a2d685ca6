"""Coverage from the definitions: simulations by somebody who has not read the statistics or their benchmarks.

Populations are invented here (documents of Zipf's sizes, memory that depends on length, copies, chains,
stretched forgetting, batches that drift) and memprobe is asked for its interval alone. Made for
docs/validation/coverage-definitions.md; `pytest -m benchmark -s` prints its rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import binom

from memprobe.stats.blocks import Series, blocks_interval
from memprobe.stats.curves import best_law, fit_laws
from memprobe.stats.did import Profile, profile
from memprobe.stats.differences import difference_interval, independent_difference, paired_difference
from memprobe.stats.documents import document_rate
from memprobe.stats.half_life import Binomial
from memprobe.stats.lag_curve import Controls, Exposed, lag_curve
from memprobe.stats.rates import rate_interval, share_interval

pytestmark = pytest.mark.benchmark

N_SIMULATIONS = 200
N_HALF_LIVES = 120
# A tail of 0.035 is asked for; three standard errors of a share of 0.035 in 200 simulations are 0.039.
TAIL_MAX = 0.035 + 0.039
# Intervals of 0.95 that are asked to cover 0.93, less three standard errors in 200 simulations.
COVERAGE_MIN = 0.93 - 0.054


@dataclass
class Tally:
    """How often an interval lies above the truth, or below it."""

    above: int = 0
    below: int = 0
    n: int = 0
    none: int = 0
    widths: list[float] = field(default_factory=list)

    def add(self, lo: float | None, hi: float | None, truth: float) -> None:
        self.n += 1
        self.above += lo is not None and lo > truth + 1e-9
        self.below += hi is not None and hi < truth - 1e-9
        if lo is not None and hi is not None:
            self.widths.append(hi - lo)

    @property
    def tails(self) -> tuple[float, float]:
        return self.above / max(self.n, 1), self.below / max(self.n, 1)

    @property
    def coverage(self) -> float:
        return 1 - sum(self.tails)

    def row(self, method: str, cell: str) -> str:
        lower, upper = self.tails
        width = f"{np.median(self.widths):.3f}" if self.widths else "-"
        none = f"{self.none / max(self.n + self.none, 1):.2f}"
        return (
            f"| {method} | {cell} | 0.95 | {self.coverage:.3f} | {lower:.3f} | {upper:.3f} "
            f"| {width} | {none} | {self.n + self.none} |"
        )


def generator(*cell: object) -> np.random.Generator:
    return np.random.default_rng(sum(ord(letter) * (i + 1) for i, letter in enumerate(repr(cell))))


# Documents: how many of the items of each are hits, given their sizes and the rate over all items.


def zipf(rng: np.random.Generator, n_documents: int, largest: int = 50) -> np.ndarray:
    weight = 1 / np.arange(1, largest + 1)
    return rng.choice(np.arange(1, largest + 1), n_documents, p=weight / weight.sum())


def beta_binomial(rng, sizes, rate, icc=0.3):
    strength = (1 - icc) / icc
    return rng.binomial(sizes, rng.beta(rate * strength, (1 - rate) * strength, len(sizes)))


def independent(rng, sizes, rate):
    return rng.binomial(sizes, rate)


def whole(rng, sizes, rate):
    return sizes * (rng.random(len(sizes)) < rate)


def leaky(rng, sizes, rate):
    """Memorized documents give 0.8 of their items, others a tenth of the rate."""
    memorized = rng.random(len(sizes)) < 0.9 * rate / (0.8 - rate / 10)
    return rng.binomial(sizes, np.where(memorized, 0.8, rate / 10))


def copies(rng, sizes, rate):
    """Half of a document are copies of one passage, the rest are items of their own."""
    same = sizes // 2
    return same * (rng.random(len(sizes)) < rate) + rng.binomial(sizes - same, rate)


def chain(rng, sizes, rate):
    """Neighbours inside a document agree unless a coin of 0.2 draws anew."""
    hits = []
    for size in sizes:
        anew = rng.random(size) < 0.2
        anew[0] = True
        fresh = rng.random(size) < rate
        hits.append(fresh[np.maximum.accumulate(np.where(anew, np.arange(size), 0))].sum())
    return np.array(hits)


def by_length(rng, sizes, rate, power):
    """Memorized whole, by chance as a power of the document's length; `rate` of all items in the mean."""
    weight = sizes.astype(float) ** power

    def excess(scale: float) -> float:
        return float((np.minimum(1, scale * weight) * sizes).sum() / sizes.sum() - rate)

    scale = brentq(excess, 0, 1 / weight.min())
    return sizes * (rng.random(len(sizes)) < np.minimum(1, scale * weight))


def long_ones(rng, sizes, rate):
    return by_length(rng, sizes, rate, 1.0)


def short_ones(rng, sizes, rate):
    return by_length(rng, sizes, rate, -1.0)


LAWS: list[Callable] = [independent, beta_binomial, whole, leaky, copies, chain, long_ones, short_ones]


@pytest.mark.parametrize(
    ("n_documents", "rate"), [(5, 0.02), (5, 0.2), (20, 0.02), (20, 0.2), (20, 0.5), (60, 0.02)]
)
def test_rates_over_documents(n_documents, rate):
    for law in LAWS:
        rng, tally = generator(n_documents, rate, law.__name__), Tally()
        for _ in range(N_SIMULATIONS):
            sizes = zipf(rng, n_documents)
            hits = law(rng, sizes, rate)
            interval = document_rate(hits.astype(float), sizes.astype(float))
            if interval is None:
                tally.none += 1
            else:
                tally.add(interval.lo, interval.hi, rate)
        print(tally.row("pseudo-document", f"{law.__name__}, {n_documents} documents, rate {rate}"))
        assert max(tally.tails) <= TAIL_MAX


def test_what_no_bound_can_know_is_stated():
    """One document in twenty is long, and only long ones are memorized: 36% of samples hold none."""
    rng, tally, truth = generator("rare"), Tally(), 0.05 * 50 / (0.05 * 50 + 0.95 * 2)
    for _ in range(N_SIMULATIONS):
        long = rng.random(20) < 0.05
        interval = document_rate(np.where(long, 50.0, 0.0), np.where(long, 50.0, 2.0))
        if interval is None:
            tally.none += 1
        else:
            tally.add(interval.lo, interval.hi, truth)
    print(tally.row("pseudo-document", "only the one long document in twenty is memorized, 20 documents"))


def test_rates_of_single_items_exactly():
    """The binomial itself, no draws: at the ends of the intervals, where the tails are largest."""
    for n in (5, 20, 73, 381):
        ends = [rate_interval(np.arange(n) < k, np.arange(n)) for k in range(n + 1)]
        lo, hi = np.array([each.lo for each in ends]), np.array([each.hi for each in ends])
        rates = np.concatenate([lo + 1e-9, hi - 1e-9, np.linspace(0.005, 0.5, 200)])
        rates = rates[(rates >= 0.005) & (rates <= 0.5)]
        mass = binom.pmf(np.arange(n + 1), n, rates[:, None])
        lower, upper = (mass * (lo > rates[:, None])).sum(1), (mass * (hi < rates[:, None])).sum(1)
        print(
            f"| {ends[0].method} | {n} items of their own, worst of rates 0.005 to 0.5 | 0.95 | "
            f"{1 - (lower + upper).max():.3f} | {lower.max():.3f} (rate {rates[lower.argmax()]:.3f}) | "
            f"{upper.max():.3f} (rate {rates[upper.argmax()]:.3f}) | - | 0.00 | exact |"
        )
        assert upper.max() <= 0.06


def items_of(hits: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    document = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(document)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (place < hits[document]).astype(float), document


def test_excess_of_two_groups_of_documents():
    for first, second, law in ((6, 40, whole), (20, 20, beta_binomial), (40, 8, whole), (20, 20, long_ones)):
        for rates in ((0.2, 0.02), (0.05, 0.05)):
            rng, tally = generator(first, second, law.__name__, rates), Tally()
            for _ in range(N_SIMULATIONS):
                ends, values = [], []
                for n_documents, rate in zip((first, second), rates, strict=True):
                    sizes = zipf(rng, n_documents, 20)
                    outcome, document = items_of(law(rng, sizes, rate), sizes)
                    ends.append(rate_interval(outcome, document))
                    values.append(float(outcome.mean()))
                if None in ends:
                    tally.none += 1
                    continue
                interval = independent_difference(values[0], ends[0], values[1], ends[1])
                tally.add(interval.lo, interval.hi, rates[0] - rates[1])
            print(
                tally.row("square-and-add", f"{law.__name__}, {first} and {second} documents, rates {rates}")
            )
            assert max(tally.tails) <= TAIL_MAX


def two_checkpoints(rng, n_documents, gain, loss, kept):
    """Documents gained, lost and kept whole; in half of them only the first item of a document moves."""
    sizes, u = rng.integers(1, 9, n_documents), rng.random(n_documents)
    document = np.repeat(np.arange(n_documents), sizes)
    first_item = np.r_[True, np.diff(document) > 0]
    moves = first_item | (rng.random(n_documents) < 0.5)[document]
    stays = (u > gain + loss) & (u < gain + loss + kept)
    now = (u < gain)[document] & moves | stays[document]
    then = ((u >= gain) & (u < gain + loss))[document] & moves | stays[document]
    # Each document moves (size + 1) / 2 of its items in the mean: 5.5 / 2 items over a mean size of 4.5.
    return now.astype(float), then.astype(float), document, (gain - loss) * (4.5 + 1) / 2 / 4.5


@pytest.mark.parametrize("n_documents", [6, 25])
def test_paired_differences(n_documents):
    for change in ((0.05, 0.0, 0.2), (0.3, 0.1, 0.2), (0.02, 0.02, 0.3)):
        rng, tally, single, part = generator(n_documents, change), Tally(), Tally(), Tally()
        for _ in range(N_SIMULATIONS):
            now, then, document, truth = two_checkpoints(rng, n_documents, *change)
            interval = paired_difference(now, then, clusters=document)
            if interval is None:
                tally.none += 1
            else:
                tally.add(interval.lo, interval.hi, truth)
            heads = np.r_[True, np.diff(document) > 0]
            alone = paired_difference(now[heads], then[heads])
            single.add(alone.lo, alone.hi, change[0] - change[1])
            share = rng.beta(0.4, 0.4, n_documents)
            some = difference_interval((now - then)[heads] * share)
            part.add(some.lo, some.hi, (change[0] - change[1]) / 2)
        cell = f"gain, loss, kept {change}, {n_documents} documents"
        print(tally.row("pseudo-document-paired", cell))
        print(single.row("newcombe-paired", f"{cell} of one item"))
        print(part.row("pseudo-document-paired", f"{cell} of one item, shares"))
        assert max(*tally.tails, *part.tails) <= TAIL_MAX


def test_shares_of_items():
    """Means between 0 and 1 of items that are nearly all 0, such as `es_frac` of what is not memorized."""
    for n in (5, 20, 100):
        for name, draw, truth in (
            (
                "0 or near 1 in one of 25",
                lambda g, n: (g.random(n) < 0.04) * g.beta(20, 1, n),
                0.04 * 20 / 21,
            ),
            ("beta of 0.1 and 0.9", lambda g, n: g.beta(0.1, 0.9, n), 0.1),
            ("uniform", lambda g, n: g.random(n), 0.5),
        ):
            rng, tally = generator(n, name), Tally()
            for _ in range(N_SIMULATIONS):
                interval = share_interval(draw(rng, n), np.arange(n))
                tally.add(interval.lo, interval.hi, truth)
            print(tally.row("pseudo-document", f"shares, {name}, {n} items"))
            assert max(tally.tails) <= TAIL_MAX


# Windows: passages come as a renewal process and begin anywhere, also across the ends of a document.


def windows(
    rng: np.random.Generator, n: int, rate: float, length: Callable[[], int], mean: float
) -> np.ndarray:
    gap, hits = mean * (1 - rate) / rate, np.zeros(n)
    at = -int(rng.integers(0, int(30 * (mean + gap))))
    while at < n:
        at += int(rng.geometric(1 / gap))
        end = at + length()
        hits[max(at, 0) : max(end, 0)] = 1
        at = end
    return hits


@pytest.mark.parametrize(
    ("kind", "n", "n_documents", "rate", "passage", "declared", "asked"),
    [
        ("fixed", 1000, 1, 0.05, 40, None, True),
        ("fixed", 1000, 1, 0.2, 50, None, True),
        ("fixed", 1000, 1, 0.02, 50, None, True),
        ("mixed", 1000, 1, 0.05, 25, None, True),
        ("geometric", 1000, 1, 0.2, 12, None, True),
        ("fixed", 300, 6, 0.1, 15, None, True),
        ("fixed", 1000, 1, 0.1, 100, 100, True),
        ("fixed", 1000, 3, 0.1, 150, 150, True),
        ("fixed", 1000, 1, 0.2, 100, None, False),
        ("fixed", 1000, 5, 0.05, 100, None, False),
        ("geometric", 1000, 1, 0.5, 40, None, False),
    ],
)
def test_overlapping_windows(kind, n, n_documents, rate, passage, declared, asked):
    rng, tally = generator(kind, n, n_documents, rate, passage), Tally()
    method = ""
    length, mean = {
        "fixed": (lambda: passage, passage),
        "geometric": (lambda: int(rng.geometric(1 / passage)), passage),
        "mixed": (lambda: passage if rng.random() < 0.2 else 3, 0.2 * passage + 2.4),
    }[kind]
    for _ in range(N_SIMULATIONS):
        found = blocks_interval(
            [
                Series(windows(rng, n, rate, length, mean), np.ones(n), overlap=5, passage=declared)
                for _ in range(n_documents)
            ]
        ).interval
        if found is None:
            tally.none += 1
        else:
            method = found.method
            tally.add(found.lo, found.hi, rate)
    said = "" if declared is None else ", declared"
    print(tally.row(method, f"{kind} passages of {passage}{said}, {n_documents} x {n} windows, rate {rate}"))
    if asked:
        assert tally.coverage >= 0.92 - 0.058


# The profile: effects that decay and differ between items, errors that walk, are skewed or differ in scale.


@dataclass(frozen=True)
class Panel:
    name: str
    cohorts: dict[int, int]
    n_controls: int
    n_periods: int
    noise: str
    spread: float = 0.0
    batch: int = 0

    def effect(self, cohort: int, period: int) -> float:
        return 1.5 * np.exp(-(period - cohort) / 2) * (1 + 0.2 * cohort) if period >= cohort else 0.0

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        cohort = np.concatenate(
            [np.full(n, g) for g, n in self.cohorts.items()] + [np.zeros(self.n_controls)]
        )
        never = np.arange(len(cohort)) >= len(cohort) - self.n_controls
        shape = (len(cohort), self.n_periods)
        noise = {
            "walk": lambda: 0.5 * rng.normal(size=shape).cumsum(1),
            "skewed": lambda: -rng.gamma(0.7, 1, size=shape),
            "scaled": lambda: rng.normal(size=shape) * rng.gamma(2, 0.5, size=(shape[0], 1)),
        }[self.noise]()
        effect = np.array([[self.effect(int(g), t) for t in range(self.n_periods)] for g in cohort])
        effect = np.where(never[:, None], 0, effect) * (
            1 + self.spread * (rng.exponential(size=(shape[0], 1)) - 1)
        )
        y = 2 * rng.normal(size=(shape[0], 1)) + np.sin(np.arange(self.n_periods)) + noise + effect
        if not self.batch:
            return y, cohort.astype(int), never, None
        place = np.concatenate([np.arange(n) for n in (*self.cohorts.values(), self.n_controls)])
        key = np.where(never, -1, cohort) * 1000 + place // self.batch
        batches = np.unique(key, return_inverse=True)[1]
        return (
            y + 0.5 * rng.normal(size=(batches.max() + 1, self.n_periods))[batches],
            cohort.astype(int),
            never,
            batches,
        )


PANELS = [
    Panel("3 cohorts of 3 against 30, walk", {1: 3, 2: 3, 3: 3}, 30, 5, "walk"),
    Panel("3 cohorts of 3 against 30, skewed, effects differ", {1: 3, 2: 3, 3: 3}, 30, 5, "skewed", 1.0),
    Panel("1 cohort of 10 against 10, skewed", {2: 10}, 10, 5, "skewed"),
    Panel("3 cohorts of 20 against 8, scales differ", {1: 20, 2: 20, 3: 20}, 8, 5, "scaled", 0.5),
    Panel("cohorts of 3 and 40 against 30, walk", {1: 3, 3: 40}, 30, 5, "walk"),
    Panel("2 cohorts of 2 batches against 2, walk", {1: 10, 2: 10}, 10, 4, "walk", 0.0, 5),
    Panel("3 cohorts of 5 batches against 10, skewed", {1: 20, 2: 20, 3: 20}, 40, 5, "skewed", 0.5, 4),
]


def expected(found: Profile, panel: Panel) -> Iterator[tuple[str, object, float]]:
    """The means over cells that memprobe reports, with what they should be, by items of the cohorts."""
    post = [
        (g, t, panel.cohorts[g], panel.effect(g, t)) for g in panel.cohorts for t in range(g, panel.n_periods)
    ]

    def mean(cells):
        return sum(n * e for _, _, n, e in cells) / sum(n for _, _, n, _ in cells)

    yield "simple", found.aggregations["simple"].overall, mean(post)
    yield "persistent", found.aggregations["persistent"].overall, mean([c for c in post if c[1] > c[0]])
    events = sorted({t - g for g, t, _, _ in post})
    by_event = [mean([c for c in post if c[1] - c[0] == e]) for e in events]
    yield "event, overall", found.aggregations["event"].overall, float(np.mean(by_event))


@pytest.mark.parametrize("panel", PANELS, ids=lambda each: each.name)
def test_profile(panel):
    rng = generator(panel.name)
    tallies = {name: Tally() for name in ("cells", "band", "simple", "persistent", "event, overall")}
    rejected = {"sup-t": 0, "gap": 0}
    for _ in range(N_SIMULATIONS):
        y, cohort, never, batches = panel.draw(rng)
        found = profile(y, cohort, never=never, clusters=batches, rng=rng, n_draws=300)
        cells = found.cells
        truth = np.array(
            [panel.effect(int(g), int(t)) for g, t in zip(cells.cohort, cells.period, strict=True)]
        )
        for lo, hi, value in zip(cells.att.lo, cells.att.hi, truth, strict=True):
            tallies["cells"].add(lo, hi, value)
        # The band as one interval around 0: how far its ends lie beyond the truth where they do most.
        above, below = (cells.att.lo_sim - truth).max(), (truth - cells.att.hi_sim).max()
        tallies["band"].add(above if above >= below else None, None if above >= below else -below, 0.0)
        for name, estimate, value in expected(found, panel):
            tallies[name].add(estimate.lo, estimate.hi, value)
        rejected["sup-t"] += found.pretrend.sup_t_p_value <= 0.05
        rejected["gap"] += found.base_gap.p_value <= 0.05
    for name, tally in tallies.items():
        print(tally.row("influence-function-t", f"{name}: {panel.name}"))
    print(f"  rejected at 0.05: { ({name: n / N_SIMULATIONS for name, n in rejected.items()}) }")
    assert tallies["cells"].coverage >= 0.92


# Half-lives: items keep a lifetime of their own, so that what is lost stays lost.

LAGS = np.array([1, 2, 4, 8, 16, 32, 64, 128.0])
FORGETTING = {
    "exponential": lambda t: np.exp(-t / 30),
    "stretched exponential": lambda t: np.exp(-((t / 20) ** 0.7)),
    "two speeds": lambda t: 0.6 * np.exp(-t / 6) + 0.4 * np.exp(-t / 120),
    "a quarter for good": lambda t: 0.75 * np.exp(-t / 10) + 0.25,
    "sigmoid": lambda t: 1 / (1 + (t / 20) ** 2),
}


def half_life(rng, law, n, n_controls, guessed, per_document=1, icc=0.0):
    """memprobe's half-life of the best law with its interval, as `summary` asks for it."""
    document = np.arange(n) // per_document
    score = np.sqrt(icc) * rng.normal(size=n)[document] + np.sqrt(1 - icc) * rng.normal(size=n)
    lasting = np.array([ndtr(score) < (0.5 if guessed else 0.8) * law(lag) for lag in LAGS]).T
    y = (lasting | (rng.random(n) < guessed)[:, None]).astype(float)
    at = np.tile(np.arange(len(LAGS)), (n, 1))
    exposed = Exposed(y, LAGS[at], at, np.zeros(n, int), document)
    controls = None
    if n_controls:
        known = np.tile(rng.random((n_controls, 1)) < guessed, (1, len(LAGS))).astype(float)
        controls = Controls(known, np.ones((1, n_controls), bool), n + np.arange(n_controls))
    curve = lag_curve(exposed, controls, rng=rng, n_draws=200, floor=0.0)
    floor = np.zeros(len(LAGS)) if curve.baseline is None else curve.baseline
    fits = fit_laws(
        curve.lag,
        curve.excess.value,
        draws=curve.draws,
        weights=Binomial(floor, n),
        n_clusters=int(curve.n_clusters.min()),
    )
    return fits[best_law(fits)].half_life_anew


@pytest.mark.parametrize(
    ("name", "n", "n_controls", "guessed", "per_document"),
    [
        ("exponential", 30, 0, 0.0, 1),
        ("exponential", 100, 0, 0.0, 1),
        ("stretched exponential", 100, 0, 0.0, 1),
        ("stretched exponential", 1000, 0, 0.0, 1),
        ("two speeds", 300, 0, 0.0, 1),
        ("a quarter for good", 300, 0, 0.0, 1),
        ("sigmoid", 300, 0, 0.0, 1),
        ("two speeds", 300, 300, 0.4, 1),
        ("stretched exponential", 300, 0, 0.0, 10),
    ],
)
def test_half_life(name, n, n_controls, guessed, per_document):
    law = FORGETTING[name]
    truth = brentq(lambda lag: law(lag) - law(1.0) / 2, 1, 128) - 1
    rng, tally, estimates = generator(name, n, guessed, per_document), Tally(), []
    for _ in range(N_HALF_LIVES):
        found = half_life(rng, law, n, n_controls, guessed, per_document, 0.5 if per_document > 1 else 0.0)
        if found.lo is None:
            # No law fits, or the excess is not above 0: there is no interval to miss.
            tally.none += 1
            continue
        tally.add(found.lo, found.hi, truth)
        estimates.append(np.nan if found.steps is None else found.steps)
    cell = f"{name}, n {n}, {n_controls} controls at {guessed}, {per_document} a document"
    print(
        tally.row("calibrated-profile", f"{cell}: {truth:.2f}, median estimate {np.nanmedian(estimates):.2f}")
    )
    if name == "exponential":
        assert tally.coverage >= COVERAGE_MIN
