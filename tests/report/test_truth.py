"""Planted truth beside measured value: counts and shares by hand on four canaries and two steps."""

import io

import polars as pl
from rich.console import Console

from memprobe.report.truth import ratios_view, truth_view

# Two canaries never trained on and two trained on three times: x in updates 5, 9 and 20, y in 2, 4 and 8.
TRUTH = pl.DataFrame(
    {
        "item_id": ["x", "x", "x", "y", "y", "y", "a", "b"],
        "step": [5, 9, 20, 2, 4, 8, None, None],
    },
    schema={"item_id": pl.String, "step": pl.Int64},
)
RECALL = pl.DataFrame(
    {
        "item_id": ["a", "b", "x", "y", "other"] * 2,
        "exposures": [0, 0, 3, 3, None] * 2,
        "step": [9] * 5 + [20] * 5,
        "exact": [False, False, False, True, True, False, False, True, True, True],
    }
)
LOGP = [-30.0, -20.0, -5.0, -1.0, 0.0, -28.0, -22.0, -0.5, -0.1, 0.0]
EXTRACTION = pl.concat(
    [
        RECALL.select("item_id", "step", scheme=pl.lit("full"), logp_nats=pl.Series(LOGP)),
        RECALL.select("item_id", "step", scheme=pl.lit("top40"), logp_nats=pl.lit(float("-inf"))),
    ]
)


def rendered(view) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(view)
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_counts_and_shares_stand_per_exposure_count_and_step():
    lines = rendered(truth_view(TRUTH, RECALL, EXTRACTION))
    # At step 9: x was trained on twice (5, 9) and y three times (2, 4, 8), a mean of 2.5, shown even: 2.
    # At step 20 both three times. Recalled: none, then y alone, then both.
    assert "Planted: times trained on so far → measured: share recalled (of 2)" in " ".join(lines)
    assert "0  0 → 0.00  0 → 0.00" in lines
    assert "3  2 → 0.50  3 → 1.00" in lines
    heads = [line.split() for line in lines if line.startswith("planted")]
    assert heads == [["planted", "step", "9", "step", "20"]] * 2


def test_the_mean_of_ln_p_is_that_of_the_scheme_full():
    lines = rendered(truth_view(TRUTH, RECALL, EXTRACTION))
    # (-30 - 20) / 2 and (-28 - 22) / 2; (-5 - 1) / 2 and (-0.5 - 0.1) / 2
    assert "0   -25.0    -25.0" in lines
    assert "3    -3.0     -0.3" in lines


def test_items_that_are_no_canaries_have_no_row():
    lines = rendered(truth_view(TRUTH, RECALL, EXTRACTION))
    assert len([line for line in lines if "→ 0" in line or "→ 1" in line]) == 2


def test_ratios_stand_beside_exposures_and_failures_show_their_bound():
    table = pl.DataFrame(
        {
            "item_id": ["x", "x", "y", "y", "y", "z"],
            "exposures": [128, 128, 0, 0, 0, None],
            "step": [0, 20, 0, 20, 20, 20],
            "target_kind": ["item", "item", "item", "item", "random", "item"],
            "acr": [None, 3.0, None, 0.8, 9.0, 9.0],
            "acr_upper_bound": [1.25, None, None, None, None, None],
        }
    )
    lines = rendered(ratios_view(table))
    # The least exposed first; of controls, and of items that were not planted, nothing.
    assert lines[-2:] == ["0  unknown     0.80", "128    <1.25     3.00"]
    assert max(map(len, lines)) <= 80
