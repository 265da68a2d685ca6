"""What the definitions say, written anew without a look at the code: bounds, effects, half-lives, survival.

Rungs: a slow recomputation in the test, exact enumeration of samples, a seeded simulation. What fails here
is marked with what it gives today; the mark fails when it is mended.
"""

import itertools
import json

import numpy as np
import pytest
from scipy import optimize

import memprobe
from memprobe.stats.curves import fit_laws
from memprobe.stats.did import profile
from memprobe.stats.documents import document_rate
from memprobe.stats.enough import documents_needed
from memprobe.stats.half_life import Binomial
from memprobe.stats.lag_curve import Exposed, lag_curve
from memprobe.stats.ranking import paired_auc
from memprobe.stats.rates import rate_interval
from memprobe.stats.survival import at_times, kaplan_meier

# Two numerical inversions of one characteristic function.
BOUND_TOLERANCE = 2e-6
# Sums of the same numbers in another order.
ROUNDING = 1e-12


def chance_above(weights: np.ndarray) -> float:
    """P(sum w_i G_i > 0) of independent standard exponentials, 1/2 + 1/pi int Im(phi(t)) / t dt.

    Over ln t the integrand is smooth and falls off on both sides, where plain sums are as good as any rule.
    """
    turns = weights * np.exp(np.arange(-30, 30, 0.02))[:, None]
    slope = np.sin(np.arctan(turns).sum(1)) * np.exp(-0.5 * np.log1p(turns**2).sum(1))
    return float(0.5 + 0.02 * slope.sum() / np.pi)


def upper_bound(hits: np.ndarray, sizes: np.ndarray) -> float:
    typical = (sizes**2).sum() / sizes.sum()

    def beyond(u: float) -> float:
        return chance_above(np.append(hits - u * sizes, typical * (1 - u))) - 0.025

    return float(optimize.brentq(beyond, hits.sum() / sizes.sum(), 1 - 1e-9, xtol=1e-9))


def bounds(hits: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    hits, sizes = np.asarray(hits, float), np.asarray(sizes, float)
    lo = 0.0 if not hits.any() else 1 - upper_bound(sizes - hits, sizes)
    return lo, 1.0 if (hits == sizes).all() else upper_bound(hits, sizes)


@pytest.mark.parametrize(
    ("hits", "sizes"),
    [([0, 0, 0, 0], [3, 3, 3, 3]), ([0, 5, 0, 2, 1, 0], [1, 5, 9, 2, 4, 3]), ([0.5, 7, 0], [2, 7, 8])],
)
def test_the_bound_is_that_of_its_definition(hits, sizes):
    interval = document_rate(np.array(hits, float), np.array(sizes, float))
    assert (interval.lo, interval.hi) == pytest.approx(bounds(hits, sizes), abs=BOUND_TOLERANCE)


def test_the_numbers_of_the_trial_of_methods():
    none = document_rate(np.zeros(20), np.full(20, 3.0))
    one = document_rate(np.arange(20) == 19, np.full(20, 3.0))
    assert (round(none.lo, 3), round(none.hi, 3)) == (0, 0.168)
    assert (round(one.lo, 4), round(one.hi, 3)) == (0.0004, 0.185)


@pytest.mark.parametrize("power", [-1, 0, 1])
def test_every_sample_of_documents_memorized_whole_counted(power):
    """All 2^7 samples with their chances: no simulation error. Chances go with the length, or against it."""
    sizes = np.array([1.0, 1, 2, 3, 5, 8, 8])
    samples = np.array(list(itertools.product((0, 1), repeat=len(sizes))))
    intervals = [document_rate(each * sizes, sizes) for each in samples]
    lo, hi = np.array([each.lo for each in intervals]), np.array([each.hi for each in intervals])
    for scale in (0.01, 0.05, 0.1, 0.3, 0.5, 0.8):
        chance = np.minimum(1, scale * (sizes / sizes.mean()) ** power)
        mass = np.where(samples, chance, 1 - chance).prod(1)
        rate = (chance * sizes).sum() / sizes.sum()
        assert mass[hi < rate].sum() <= 0.035
        assert mass[lo > rate].sum() <= 0.035


@pytest.mark.parametrize("limit", [0.5, 0.1, 0.05])
def test_as_many_documents_as_a_gate_asks_for_can_pass(limit):
    """-ln(0.025) = 3.69 over the limit; without a hit the bound itself, 1 - 0.025^(1/K), needs a few less."""
    needed = documents_needed(limit)
    assert needed == np.ceil(3.689 / limit)
    assert document_rate(np.zeros(needed), np.full(needed, 4.0)).hi <= limit
    bare = int(np.ceil(np.log(0.025) / np.log(1 - limit)))
    assert bare <= needed <= bare + 2
    assert document_rate(np.zeros(bare - 1), np.ones(bare - 1)).hi > limit


def effects(y, cohort, never):
    """ATT(g, t) by its definition: base g - 1 after training, t - 1 before."""
    found = {}
    for g in np.unique(cohort[~never]):
        own = ~never & (cohort == g)
        for t in range(1, y.shape[1]):
            change = y[:, t] - y[:, g - 1 if t >= g else t - 1]
            found[int(g), t] = change[own].mean() - change[never].mean()
    return found


def weighed(cells, n_items):
    return sum(n_items[g] * e for (g, _), e in cells.items()) / sum(n_items[g] for g, _ in cells)


def test_effects_and_their_means_are_those_of_loops():
    rng = np.random.default_rng(3)
    cohort = np.repeat([1, 2, 4, 0], [6, 9, 5, 20])
    never = np.arange(40) >= 20
    y = rng.normal(size=(40, 6)).cumsum(1)
    found = profile(y, cohort, never=never, rng=rng, n_draws=0)
    cells = effects(y, cohort, never)
    for g, t, att in zip(found.cells.cohort, found.cells.period, found.cells.att.value, strict=True):
        assert att == pytest.approx(cells.pop((int(g), int(t))), abs=ROUNDING)
    assert not cells
    n_items, cells = {1: 6, 2: 9, 4: 5}, effects(y, cohort, never)
    post = {key: e for key, e in cells.items() if key[1] >= key[0]}
    by = {
        "event": {
            d: weighed({k: e for k, e in cells.items() if k[1] - k[0] == d}, n_items) for d in range(-3, 5)
        },
        "cohort": {g: np.mean([e for k, e in post.items() if k[0] == g]) for g in n_items},
        "calendar": {t: weighed({k: e for k, e in post.items() if k[1] == t}, n_items) for t in range(1, 6)},
    }
    for kind, means in by.items():
        got = found.aggregations[kind]
        for key, value in zip(got.key, got.estimates.value, strict=True):
            assert value == pytest.approx(means[int(key)], abs=ROUNDING)
    later = {key: e for key, e in post.items() if key[1] > key[0]}
    overall = {
        "simple": weighed(post, n_items),
        "persistent": weighed(later, n_items),
        "event": np.mean([by["event"][d] for d in range(5)]),
        "cohort": sum(n_items[g] * e for g, e in by["cohort"].items()) / 20,
        "calendar": np.mean(list(by["calendar"].values())),
    }
    for kind, value in overall.items():
        assert found.aggregations[kind].overall.value == pytest.approx(value, abs=ROUNDING)


@pytest.mark.slow
def test_a_pointwise_interval_holds_with_three_items_against_ten():
    """200 panels of 4 cells each; the standard error of a share of 0.95 of 200 is 0.015."""
    rng, held = np.random.default_rng(11), []
    cohort, never = np.repeat([1, 0], [3, 10]), np.repeat([False, True], [3, 10])
    for _ in range(200):
        y = rng.normal(size=(13, 5)) - rng.gamma(1.0, 1.0, size=(13, 1))
        att = profile(y, cohort, never=never, rng=rng, n_draws=0).cells.att
        held.append(((att.lo <= 0) & (att.hi >= 0)).mean())
    assert 0.91 <= np.mean(held) <= 0.99


LAGS = np.array([0, 125, 250, 375, 500, 625, 750, 875.0])


def exact_half_life(law, left, n_items, floor):
    fits = fit_laws(
        LAGS,
        left,
        draws=np.zeros((0, len(LAGS))),
        weights=Binomial(np.full(len(LAGS), floor), n_items),
        laws=[law],
    )
    return fits[law].half_life.steps


@pytest.mark.parametrize("n_items", [30, 1000])
def test_rates_that_follow_a_law_over_controls_give_its_half_life(n_items):
    found = exact_half_life("exponential", 0.45 * 0.5 ** (LAGS / 100), n_items, 0.5)
    assert found == pytest.approx(100, rel=1e-6)


@pytest.mark.parametrize("n_items", [30, 1000])
def test_rates_that_follow_a_law_without_controls_give_its_half_life(n_items):
    found = exact_half_life("exponential", 0.8 * 0.5 ** (LAGS / 100), n_items, 0.0)
    assert found == pytest.approx(100, rel=1e-3)


def test_the_rates_of_a_curve_over_lags_have_the_interval_of_all_rates():
    rng = np.random.default_rng(4)
    document = np.repeat(np.arange(9), 4)
    y = np.repeat((rng.random((9, 1)) < [0.8, 0.5, 0.2]), 4, axis=0).astype(float)
    at = np.tile(np.arange(3), (36, 1))
    curve = lag_curve(
        Exposed(y, 10.0 * at, at, np.zeros(36, int), document), None, rng=rng, n_draws=20, floor=0.0
    )
    for lag, got in enumerate(curve.level.interval):
        want = rate_interval(y[:, lag], document)
        assert (got.lo, got.hi) == pytest.approx((want.lo, want.hi), abs=ROUNDING)


def test_the_area_is_the_share_of_pairs():
    rng = np.random.default_rng(5)
    seen, foil = rng.integers(0, 6, 15).astype(float), rng.integers(0, 5, 15).astype(float)
    share = np.mean([(a > b) + 0.5 * (a == b) for a in seen for b in foil])
    assert paired_auc(seen, foil).auc == pytest.approx(share, abs=ROUNDING)


def test_survival_is_that_of_a_loop_over_times():
    rng = np.random.default_rng(6)
    time, event = rng.integers(0, 9, 40).astype(float), rng.random(40) < 0.6
    curve, s = kaplan_meier(time, event), 1.0
    for t in range(9):
        s *= 1 - (event & (time == t)).sum() / (time >= t).sum() if (time >= t).any() else 1
        assert at_times(curve, np.array([float(t)]))[0] == pytest.approx(s, abs=ROUNDING)


@pytest.mark.slow
def test_a_run_counts_documents_and_copies_as_the_definitions_do(make, tmp_path):
    """Items in, summary out: rates, shares, excess and gain recomputed from the item tables."""
    rng = np.random.default_rng(7)
    rows = [
        {
            "item_id": f"{d}-{j}",
            "doc_id": f"doc{d}",
            "exposures": int(d > 5),
            "prefix": f"Page {j} of book {d}: ",
            "suffix": "".join(rng.choice(list("abcdefgh "), 20)) + ".",
            "foil": f"Page {j} of book {d}: " + "".join(rng.choice(list("abcdefgh "), 20)) + ".",
        }
        for d in range(14)
        for j in range(1 + d % 3)
    ]
    # The same text in books 2 and 3, and in books 7 and 9.
    rows += [
        next(r for r in rows if r["doc_id"] == f"doc{a}") | {"item_id": f"copy{a}", "doc_id": f"doc{b}"}
        for a, b in ((2, 3), (7, 9))
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = make.sequence(tmp_path / "main", (0, 10), tokenizer=make.tokenizer())
    run = memprobe.run(
        probes=["recognition", "recall"],
        model=str(model),
        data=str(tmp_path / "items.jsonl"),
        threads=1,
        out=tmp_path / "run",
    )
    joined = {"doc3": "doc2", "doc9": "doc7"}
    cluster = {row["item_id"]: joined.get(row["doc_id"], row["doc_id"]) for row in rows}
    trained = {row["item_id"]: row["exposures"] > 0 for row in rows}

    def table(name, column, step):
        found = run.table(name)
        found = found.filter(found["step"] == step)
        return dict(zip(found["item_id"], found[column].cast(float), strict=True))

    def recomputed(values):
        documents = sorted({cluster[item] for item in values})
        parts = [[v for item, v in values.items() if cluster[item] == each] for each in documents]
        return bounds([sum(each) for each in parts], [len(each) for each in parts])

    def row(metric, condition=None):
        s = run.summary
        found = s.filter((s["metric"] == metric) & (s["step"] == 10) & s["group"].is_null())
        return found.filter(found["condition"].eq_missing(condition)).to_dicts()[0]

    for name, column, metric in (
        ("recognition", "correct", "accuracy_frac"),
        ("recall", "hit_frac", "hit_frac"),
    ):
        got = row(metric)
        assert got["n_clusters"] == 12
        assert (got["ci_low"], got["ci_high"]) == pytest.approx(
            recomputed(table(name, column, 10)), abs=BOUND_TOLERANCE
        )
    now, then = table("recognition", "correct", 10), table("recognition", "correct", 0)
    gain = row("gain_frac")
    want = [2 * end - 1 for end in recomputed({item: (now[item] - then[item] + 1) / 2 for item in now})]
    assert (gain["ci_low"], gain["ci_high"]) == pytest.approx(want, abs=2 * BOUND_TOLERANCE)
    exact = table("recall", "exact", 10)
    sides = [
        (np.mean(list(part.values())), *recomputed(part))
        for part in (
            {item: v for item, v in exact.items() if trained[item] is side} for side in (True, False)
        )
    ]
    (p1, l1, u1), (p2, l2, u2) = sides
    excess = row("exact_excess_frac", "control=never-trained")
    want = [p1 - p2 - np.hypot(p1 - l1, u2 - p2), p1 - p2 + np.hypot(u1 - p1, p2 - l2)]
    assert (excess["ci_low"], excess["ci_high"]) == pytest.approx(want, abs=2 * BOUND_TOLERANCE)
