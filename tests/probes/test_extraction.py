"""(n, p)-extraction: closed-form values, a search over n in exact fractions, the grid's monotony.

Rungs: hand values (methods, section 22, checks 1 to 3), slow recomputation, invariances (P4),
undefined cases.
"""

import math
import random
import sys
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from memprobe.probes.contract import Scores
from memprobe.probes.extraction import PROBE, Settings, column_of, measure, plan, samples_needed
from memprobe.tables.requests import Scheme

TOP = Scheme(top_k=40)
# Token statistics are stored in float32: 50 of them, each rounded at 6e-8 of itself.
STORED = 1e-6
METRICS = {metric.name: metric for metric in PROBE.metrics}


def n_for(pz: float, p: float) -> float:
    logp = np.array([math.log(pz) if pz > 0 else -math.inf])
    return float(samples_needed(logp, p)[0])


@pytest.mark.parametrize(
    ("pz", "p", "n"),
    [
        (0.162, 0.5, 4),
        (0.162, 0.9, 14),
        (0.162, 0.1, 1),
        (0.5, 0.5, 1),
        (0.25, 0.75, 5),
        (0.5, 0.999, 10),
        (0.01, 0.5, 69),
        (1e-3, 0.5, 693),
        (1e-3, 0.999, 6905),
        (1e-4, 0.9, 23025),
        (0.0, 0.5, math.inf),
        (1.0, 0.5, 1),
        (1.0, 0.999999, 1),
    ],
)
def test_samples_needed_by_hand(pz, p, n) -> None:
    assert n_for(pz, p) == n


def test_a_tiny_probability_needs_a_finite_number_of_samples() -> None:
    # 1 - 1e-20 is 1 in float64; ln 2 / 1e-20 = 6.9314718056e19.
    assert n_for(1e-20, 0.5) == pytest.approx(6.9314718056e19, rel=1e-10)
    # p_z underflows below e^-745, ln p_z does not.
    assert samples_needed(np.array([-700.0]), 0.5)[0] == pytest.approx(math.exp(700 + math.log(math.log(2))))
    # Past e^709 the number is more than float64 holds; inf stays what is impossible.
    most, never = samples_needed(np.array([-5000.0, -math.inf]), 0.5)
    assert (most, never) == (pytest.approx(sys.float_info.max, rel=1e-10), math.inf)
    assert math.isfinite(most)


@pytest.mark.parametrize(("pz", "n", "p"), [(0.01, 100, 0.6339676587), (1e-6, 10_000, 0.0099501712)])
def test_the_inverse_by_hand(pz, n, p) -> None:
    # 1 - (1 - p_z)^n = p, to ten digits: a hair less needs n samples at most, a hair more needs more.
    assert n_for(pz, p - 1e-9) == n
    assert n_for(pz, p + 1e-9) == n + 1


@pytest.mark.parametrize(
    ("a", "k"), [*((1, k) for k in range(1, 50)), *((3, k) for k in range(1, 16)), (6, 7), (7, 5)]
)
def test_a_whole_quotient_is_not_rounded_up(a, k) -> None:
    # p_z = 1 - 2^-a and p = 1 - 2^-ak are exact, so k samples reach p exactly. In float64 the quotient of
    # the logarithms is above k for some: 29.000000000000004 for a = 1, k = 29; 7.000000000000001 for 3, 7.
    assert n_for(1 - 0.5**a, 1 - 0.5 ** (a * k)) == k


@pytest.mark.parametrize("seed", range(40))
def test_samples_needed_is_the_least_n_in_exact_fractions(seed) -> None:
    draw = random.Random(seed)
    pz, p = draw.uniform(0.02, 0.95), draw.uniform(0.05, 0.98)
    miss, goal = 1 - Fraction(pz), 1 - Fraction(p)
    n = 1
    while miss**n > goal:
        n += 1
    assert n_for(pz, p) == n


def test_more_probable_suffixes_never_need_more_samples() -> None:
    logp = np.linspace(-60, 0, 4001)
    for p in (0.1, 0.5, 0.999):
        n = samples_needed(logp, p)
        assert (np.diff(n) <= 0).all()
        assert n[-1] == 1
    # The two formulas meet at p_z = 1e-15 without a step.
    edge = math.log(1e-15)
    below, above = samples_needed(np.array([edge - 1e-9, edge + 1e-9]), 0.5)
    assert below == pytest.approx(above, rel=1e-8)


@pytest.fixture
def extracted(items_of, spans_of, tokens_row):
    """Return a function from item to per-token ln p under each scheme, to the measured table."""

    def build(
        items: dict[str, list[float]],
        settings: Settings = Settings(schemes=(TOP,)),  # noqa: B008
        *,
        unconditioned: bool = False,
        **more: object,
    ) -> pl.DataFrame:
        rows = [
            tokens_row(
                item,
                [1] * len(logps),
                unconditioned=unconditioned,
                **{scheme.column: logps for scheme in settings.schemes},
                **more,
            )
            for item, logps in items.items()
        ]
        return measure(Scores(spans_of(*rows), items_of()), settings)

    return build


@pytest.mark.parametrize(
    ("per_token", "logp", "pz", "n"),
    [
        (0.9, -5.268025782891, 0.005153775, 135),
        (0.99, 50 * math.log(0.99), 0.605006067, 1),
        (0.986232704, math.log(0.5), 0.5, None),
    ],
)
def test_fifty_equal_tokens_by_hand(per_token, logp, pz, n, extracted) -> None:
    (row,) = extracted({"a": [math.log(per_token)] * 50}).iter_rows(named=True)
    assert row["logp_nats"] == pytest.approx(logp, rel=STORED)
    assert row["pz"] == pytest.approx(pz, rel=5 * STORED)
    assert row["suffix_tokens"] == 50
    if n is not None:
        assert row["n_at_p0.5"] == n


def test_logarithms_are_summed_in_float64(extracted) -> None:
    # float32(0.1) = 0.100000001490116; a float32 sum of 2,000 of them is off by 1e-4 and more.
    (row,) = extracted({"a": [-0.1] * 2000}).iter_rows(named=True)
    assert row["logp_nats"] == pytest.approx(-2000 * float(np.float32(0.1)), abs=1e-9)


def test_a_long_suffix_underflows_in_pz_and_not_in_its_logarithm(extracted) -> None:
    (row,) = extracted({"a": [-20.0] * 50}).iter_rows(named=True)
    assert (row["logp_nats"], row["pz"], row["in_support"]) == (-1000.0, math.ulp(0.0), True)


def test_a_token_outside_the_support_makes_the_suffix_impossible(extracted) -> None:
    # (0.5, 0.3, 0.15, 0.05) with k = 2: token 2 has 0.375, token 3 has 0.
    table = extracted({"kept": [math.log(0.375)], "cut": [math.log(0.625), -math.inf]})
    kept, cut = table.iter_rows(named=True)
    assert kept["pz"] == pytest.approx(0.375, rel=STORED)
    assert (cut["pz"], cut["logp_nats"], cut["in_support"]) == (0.0, -math.inf, False)
    assert cut["n_at_p0.1"] == math.inf
    max_rate = METRICS["max_rate_frac"].values(table, Settings(schemes=(TOP,)))
    assert max_rate["value"].to_list() == [1.0, 0.0]
    rate = METRICS["rate_frac"].values(table, Settings(schemes=(TOP,)))
    assert set(rate.filter(pl.col("item_id") == "cut")["value"]) == {0.0}


GRID = Settings(schemes=(TOP,), n=(1, 2, 5, 10, 100, 1000, 10**6), p=(0.01, 0.1, 0.5, 0.9, 0.999))


def rates(table: pl.DataFrame) -> dict[tuple[int, float], float]:
    frame = METRICS["rate_frac"].values(table, GRID).group_by("condition").agg(pl.col("value").mean())
    found = dict(frame.iter_rows())
    return {(n, p): found[f"scheme=top40;n={n};p={p:g}"] for n in GRID.n for p in GRID.p}


@pytest.fixture
def varied(extracted) -> pl.DataFrame:
    draw = random.Random(1)
    items = {f"i{i}": [-draw.expovariate(1.0) for _ in range(draw.randrange(1, 12))] for i in range(40)}
    items["never"] = [-math.inf, -1.0]
    return extracted(items, GRID)


def test_the_rate_rises_with_n_and_falls_with_p(varied) -> None:
    rate = rates(varied)
    for p in GRID.p:
        along_n = [rate[n, p] for n in GRID.n]
        assert along_n == sorted(along_n)
        assert along_n[0] < along_n[-1]
    for n in GRID.n:
        along_p = [rate[n, p] for p in GRID.p]
        assert along_p == sorted(along_p, reverse=True)
    assert rate[10, 0.1] > rate[10, 0.9]


def test_the_rate_equals_the_definition(varied) -> None:
    rate = rates(varied)
    for (n, p), value in rate.items():
        slow = [-math.expm1(n * math.log1p(-pz)) >= p if pz < 1 else True for pz in varied["pz"]]
        assert value == pytest.approx(sum(slow) / len(slow), abs=1e-12), (n, p)
    assert max(rate.values()) <= METRICS["max_rate_frac"].values(varied, GRID)["value"].mean() < 1


def test_a_suffix_whose_first_token_has_no_condition_is_null_not_impossible(extracted) -> None:
    table = extracted({"a": [-1.0, -2.0]}, unconditioned=True)
    columns = [column_of(p) for p in Settings().p]
    measures = ["logp_nats", "pz", "max_rank", "in_support", "greedy", *columns]
    assert table.select(measures).row(0) == (None,) * len(measures)
    for metric in PROBE.metrics_for(Settings()):
        assert metric.values(table, Settings(schemes=(TOP,)))["value"].is_null().all(), metric.name


def test_every_scheme_has_its_row_and_the_greedy_rate_counts_an_item_once(extracted) -> None:
    settings = Settings(schemes=(TOP, Scheme(), Scheme(temperature=0.7)))
    table = extracted({"a": [-1.0], "b": [-2.0, -3.0]}, settings)
    assert sorted(table.select("item_id", "scheme").rows()) == [
        (item, scheme) for item in "ab" for scheme in ("full", "full-t0.7", "top40")
    ]
    assert table.filter(item_id="b", scheme="full")["logp_nats"].item() == -5.0
    greedy = METRICS["greedy_rate_frac"].values(table, settings)
    assert sorted(greedy.rows()) == [("a", None, 1.0), ("b", None, 1.0)]
    assert METRICS["max_rate_frac"].values(table, settings).height == 6
    assert METRICS["rate_frac"].values(table, settings).height == 6 * len(settings.n) * len(settings.p)


def test_greedy_and_the_worst_rank_come_from_all_tokens(extracted) -> None:
    table = extracted({"a": [-1.0, -1.0, -1.0]}, rank=[0, 7, 2], n_hits=1)
    assert (table["greedy"].item(), table["max_rank"].item()) == (False, 7)


def test_the_plan_asks_for_tokens_under_every_scheme(items_of) -> None:
    settings = Settings(prefix_tokens=4, suffix_tokens=2)
    items = items_of({"item_id": "a", "n_tokens": 10}, {"item_id": "b", "n_tokens": 5})
    planned = plan(items, settings)
    assert planned.requests.rows() == [("a", "text", 0, 4, 6, "tokens")]
    assert planned.statistics == {Scheme(top_k=40), Scheme()}
    assert planned.unfit["item_id"].to_list() == ["b"]


def test_columns_are_named_after_p_in_full() -> None:
    assert [column_of(p) for p in (0.1, 0.5, 0.999, 0.99999999)] == [
        *("n_at_p0.1", "n_at_p0.5", "n_at_p0.999", "n_at_p0.99999999"),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schemes": ()}, "schemes is empty"),
        ({"schemes": (TOP, TOP)}, "schemes has one scheme twice"),
        ({"n": ()}, r"n is \[\], not one or more numbers of 1 or more"),
        ({"n": (10, 0)}, r"n is \[10, 0\], not one or more numbers of 1 or more"),
        ({"n": (10, 100, 10)}, "n has one number twice"),
        ({"p": ()}, r"p is \[\], not one or more numbers between 0 and 1"),
        ({"p": (0.5, 1.0)}, r"p is \[0.5, 1.0\], not one or more numbers between 0 and 1"),
        ({"p": (0.0,)}, r"p is \[0.0\], not one or more numbers between 0 and 1"),
        ({"p": (0.5, 0.5)}, "p has one number twice"),
        ({"prefix_tokens": -1}, "prefix_tokens is -1, not 0 or more"),
        ({"suffix_tokens": 0}, "suffix_tokens is 0, not 1 or more"),
        ({"align": "end"}, 'align = "end" needs suffix_tokens'),
    ],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Settings(**settings)
