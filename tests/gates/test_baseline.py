"""Rules against a baseline: the bound of the difference decides, and what is not comparable is no pass."""

import importlib
import shutil
from types import SimpleNamespace

import polars as pl
import pytest

from memprobe.comparison.match import MatchedItems
from memprobe.comparison.runs import compare
from memprobe.errors import InvalidRunError
from memprobe.gates.dry_run import dry_run
from memprobe.gates.judge import gate
from memprobe.stats.differences import newcombe_paired
from memprobe.tables.differences import DIFFERENCES
from tests.gates.conftest import row


def difference(both, base_only, new_only, neither, **given):
    """One row of a comparison, its interval Newcombe's for these pairs."""
    n = both + base_only + new_only + neither
    interval = newcombe_paired(both, new_only, base_only, neither)
    base, new = (both + base_only) / n, (both + new_only) / n
    return (
        dict.fromkeys(DIFFERENCES.columns)
        | {"model_base": "m", "model_new": "m", "step_base": 10, "step": 10, "unit": "fraction"}
        | {"probe": "recall", "metric": "exact_frac", "signature": "s", "n_missing": 0}
        | {"base": base, "new": new, "difference": new - base, "n_items": n, "n_clusters": n}
        | {"ci_low": interval.lo, "ci_high": interval.hi, "ci_level": 0.95, "ci_method": interval.method}
        | given
    )


@pytest.fixture
def against(made, ruled, monkeypatch):
    """Return what a gate says of differences: against([difference(...)], "max_increase = 0.1")."""

    def ask(rows, *rules, refused=None, asked=None, run=None, items=None, allow_incomplete=False, **base):
        asked = [] if asked is None else asked

        def fake(base, new, *, probes, metrics, steps):
            asked.append(steps)
            if refused in (True, *probes):
                raise InvalidRunError("the BOS mode differs: none and default")
            frame = pl.DataFrame(rows, schema=DIFFERENCES.empty().schema, orient="row")
            kept = frame.filter(pl.col("probe").is_in(list(probes)), pl.col("metric").is_in(list(metrics)))
            return SimpleNamespace(differences=kept, items=items or MatchedItems(("a",)))

        monkeypatch.setattr(importlib.import_module("memprobe.comparison.runs"), "compare", fake)
        new = made(run or [row(3), row(3, probe="extraction", metric="rate_frac")])
        before = made([row(3)], name="base", **base)
        return gate(new, ruled(*rules), baseline=before, allow_incomplete=allow_incomplete)

    return ask


# Of 1,000 pairs 40 are gained and none lost: 0.04 [0.0280, 0.0532].
GAINED = difference(100, 0, 40, 860)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("max_increase = 0.055", "passed"),
        ("max_increase = 0.05", "failed"),
        ('max_increase = 0.0401\nbound = "estimate"', "passed"),
        ('max_increase = 0.039\nbound = "estimate"', "failed"),
        ('max_increase = 0.03\nbound = "lo"', "passed"),
        # A rise of at least 0.0280 is no fall at all.
        ("max_decrease = 0", "passed"),
        ("max_decrease = -0.02", "passed"),
        ("max_decrease = -0.03", "failed"),
    ],
)
def test_the_bound_of_the_difference_decides(body, verdict, against):
    result = against([GAINED], body)
    assert [each.verdict for each in result.rules] == [verdict]


@pytest.mark.parametrize(
    ("where", "steps"),
    [
        ('{ step = "last" }', [10]),
        ("{ step = 10 }", [10]),
        ('{ group = "x" }', []),
        # Neither run holds it: all are compared, so that the reason can list them.
        ("{ step = 20 }", []),
    ],
)
def test_only_the_steps_that_rules_are_about_are_compared(where, steps, against):
    asked = []
    against([GAINED], f"max_increase = 0.055\nwhere = {where}", asked=asked)
    assert asked == [steps]


NO_SPREAD = {"ci_low": None, "ci_high": None, "ci_method": None, "unit": "tokens", "metric": "lcp_tokens"}


@pytest.mark.parametrize(
    ("given", "body", "verdict"),
    [
        ({}, "max_increase = 0", "passed"),
        ({}, "max_decrease = 0.5", "passed"),
        # A rise is asked for, and there is none.
        ({}, "max_decrease = -0.5", "failed"),
        # Items changed, and only the median of them did not.
        ({"n_changed": 1}, "max_increase = 0.5", "could not judge"),
        # One document says nothing of others.
        ({"n_clusters": 1}, "max_increase = 0.5", "could not judge"),
        # All rose alike, which resampling takes for certain.
        ({"n_changed": 30, "difference": 0.25}, "max_increase = 0.5", "could not judge"),
        ({"n_items": 19}, "max_increase = 0.5", "could not judge"),
    ],
)
def test_no_changed_item_passes_what_the_smallest_change_would_pass(given, body, verdict, against):
    unchanged = difference(0, 0, 0, 30) | NO_SPREAD | {"difference": 0.0, "n_changed": 0} | given
    assert against([unchanged], f'metric = "lcp_tokens"\n{body}').rules[0].verdict == verdict


def test_a_fall_is_judged_on_the_lower_bound(against):
    lost = difference(100, 40, 0, 860)
    # The mirror image: -0.04 [-0.0532, -0.0280]
    assert (lost["ci_low"], lost["ci_high"]) == pytest.approx((-GAINED["ci_high"], -GAINED["ci_low"]))
    assert against([lost], "max_decrease = 0.055").verdict == "passed"
    assert against([lost], "max_decrease = 0.05").verdict == "failed"
    assert against([lost], "max_increase = 0").verdict == "passed"
    (told,) = against([lost], "max_decrease = 0.05").rules[0].rows
    assert told.reason == "lower bound of the difference -0.0532 is below -0.05"


def test_a_difference_stands_in_the_row_with_the_checkpoint_s_name(against):
    (told,) = against([GAINED], "max_increase = 0.05").rules[0].rows
    assert (told.estimate, told.n_items, told.revision) == (pytest.approx(0.04), 1000, "step10")
    assert told.reason == "upper bound of the difference 0.0532 is above 0.05"


def test_so_few_items_that_no_change_could_pass_are_no_failure(against):
    # No hit in either run: z^2 / (24 + z^2) = 0.138; 0.05 needs 73 items.
    result = against([difference(0, 0, 0, 24)], "max_increase = 0.05")
    assert result.exit_code == 3
    (told,) = result.rules[0].rows
    assert told.reason == "even no change at all needs 73 items to pass, here are 24"
    assert against([difference(0, 0, 0, 73)], "max_increase = 0.05").exit_code == 0


def test_an_increase_beyond_the_limit_with_its_whole_interval_fails_with_any_number_of_items(against):
    assert against([difference(0, 0, 24, 0)], "max_increase = 0.05").exit_code == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            {"difference": None, "reason": "it is told of the whole sequence"},
            "not compared: it is told of the whole sequence",
        ),
        ({"ci_low": None, "ci_high": None}, "there is no interval, so no upper bound"),
        ({"n_items": 19}, "19 items, and min_n asks for 20"),
    ],
)
def test_what_is_not_compared_is_no_pass(given, reason, against):
    result = against([GAINED | given], "max_increase = 0.5")
    assert (result.exit_code, result.rules[0].rows[0].reason) == (3, reason)


def test_a_baseline_that_is_not_comparable_leaves_other_rules_alone(against):
    other = 'probe = "extraction"\nmetric = "rate_frac"\nmax_increase = 0.1'
    rows = [GAINED, GAINED | {"probe": "extraction", "metric": "rate_frac"}]
    result = against(rows, "max_increase = 0.1", other, "max = 0.9", refused="recall")
    assert [each.verdict for each in result.rules] == ["could not judge", "passed", "passed"]
    assert result.rules[0].reason == (
        "not comparable with the baseline: the BOS mode differs: none and default"
    )


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ({"state": "scoring"}, "the baseline is not finished"),
        ({"state": "incomplete", "failures": [{"model": "m"}]}, "checkpoints of the baseline failed"),
    ],
)
def test_half_a_baseline_is_none(base, reason, against):
    result = against([GAINED], "max_increase = 0.5", **base)
    assert result.exit_code == 3
    assert result.rules[0].reason.startswith(reason)


def test_without_a_baseline_such_a_rule_is_no_pass(judge):
    result = judge([row(3)], "max_increase = 0.5", "max = 0.9")
    assert [each.verdict for each in result.rules] == ["could not judge", "passed"]
    assert "--baseline RUN" in result.rules[0].reason


def test_a_baseline_that_is_no_run_is_an_error(made, ruled, tmp_path):
    with pytest.raises(InvalidRunError, match="no run here"):
        gate(made([row(3)]), ruled("max = 0.9"), baseline=tmp_path / "nowhere")


@pytest.fixture
def before(finished, tmp_path):
    """The same run in another folder."""
    return shutil.copytree(finished, tmp_path / "before")


def test_a_run_that_is_its_own_baseline_is_not_judged(finished, ruled):
    result = gate(finished, ruled("max_increase = 0.3"), baseline=finished)
    assert result.exit_code == 3
    assert "the baseline is this run itself" in result.rules[0].reason


def test_a_run_against_an_equal_one_has_changed_by_nothing(finished, before, ruled):
    """The real comparison, on a run of real units."""
    rules = ruled(
        "max_increase = 0.3", 'probe = "recognition"\nmetric = "margin_nats"\nmax_increase = 1\nmin_n = 5'
    )
    result = gate(finished, rules, baseline=before)
    first, second = result.rules
    rows = compare(finished, finished, probes=["recall"], metrics=["exact_frac"]).differences
    pooled = rows.filter(pl.col("group").is_null(), pl.col("condition").is_null())
    assert [each.estimate for each in first.rows] == [0.0, 0.0, 0.0]
    assert [each.ci_high for each in first.rows] == pooled["ci_high"].to_list()
    assert [each.step for each in first.rows] == [0, 10, 20]
    assert first.verdict == "passed"
    # Resampling differences that are all 0 shows no spread; as no item changed, the bound is 0.
    assert (second.verdict, second.rows[0].estimate, second.rows[0].ci_high) == ("passed", 0.0, None)


def test_a_dry_run_tells_what_no_change_needs(made, ruled, finished, before):
    (told,) = dry_run(finished, ruled("max_increase = 0.05"), baseline=before).rules
    assert {row.n_items for row in told.rows} == {24}
    # No hit in either run at all three steps: 73 as for a rate itself.
    assert {row.n_needed for row in told.rows} == {73}
    (told,) = dry_run(finished, ruled("max_increase = 0.05")).rules
    assert "--baseline RUN" in told.summary


def test_a_row_without_a_partner_is_listed_and_is_no_pass(against, made, ruled, monkeypatch):
    # The run has steps 10 and 20, the baseline step 10 alone.
    rows = [row(3), row(3, step=20)]
    result = against([GAINED], "max_increase = 0.055", run=rows)
    assert result.exit_code == 3
    assert [(each.step, each.verdict) for each in result.rules[0].rows] == [
        (10, "passed"),
        (20, "could not judge"),
    ]
    assert result.rules[0].rows[1].reason == (
        "not compared: the baseline has no checkpoint that is this one's partner"
    )
    # Named, the one that has a partner is judged alone.
    assert against([GAINED], "max_increase = 0.055\nwhere = { step = 10 }", run=rows).exit_code == 0


def test_a_group_that_the_baseline_lacks_is_no_pass(against):
    rows = [row(3), row(3, group="canary")]
    body = 'max_increase = 0.055\nwhere = { group = "canary" }'
    result = against([GAINED], body, run=rows)
    assert result.exit_code == 3
    (told,) = result.rules[0].rows
    assert told.reason == "not compared: the baseline has no such number of the same items"


def test_a_rise_beyond_the_limit_fails_though_another_row_has_no_partner(against):
    assert against([GAINED], "max_increase = 0.05", run=[row(3), row(3, step=20)]).exit_code == 1


def test_a_partner_that_failed_is_passed_over_where_that_is_allowed_but_never_all(against):
    base = {"state": "incomplete", "failures": [{"model": "m", "revision": "step20", "step": 20}]}
    rows = [row(3), row(3, step=20)]
    result = against([GAINED], "max_increase = 0.055", run=rows, allow_incomplete=True, **base)
    assert result.exit_code == 0
    assert "not judged, as the checkpoint failed in the baseline: m step 20" in result.rules[0].notes
    body = "max_increase = 0.055\nwhere = { step = 20 }"
    assert against([GAINED], body, run=rows, allow_incomplete=True, **base).exit_code == 3


def test_a_failure_without_a_step_excuses_no_number_of_a_whole_sequence(against):
    base = {
        "state": "incomplete",
        "failures": [{"model": "m", "revision": "final", "step": None}],
        "checkpoints": [{"model": "m", "step": step, "revision": f"step{step}"} for step in (10, 20)],
    }
    run = [row(3), row(3, step=None, revision=None)]
    assert against([GAINED], "max_increase = 0.055", run=run, allow_incomplete=True, **base).exit_code == 3


def test_the_failure_of_another_model_excuses_nothing(against, made, ruled):
    base = {
        "state": "incomplete",
        "failures": [{"model": "other", "revision": "step20", "step": 20}],
        "checkpoints": [
            {"model": model, "step": step, "revision": f"step{step}"}
            for model in ("m", "other")
            for step in (10, 20)
        ],
    }
    rows = [row(3), row(3, step=20)]
    told = against([GAINED], "max_increase = 0.055", run=rows, allow_incomplete=True, **base)
    assert told.exit_code == 3


@pytest.mark.parametrize(
    ("both", "base_only", "new_only", "changed", "code"),
    [(3, 0, 497, 0, 3), (3, 497, 0, 0, 3), (3, 0, 0, 497, 3), (60, 40, 0, 0, 0), (100, 0, 0, 0, 0)],
)
def test_a_difference_of_few_of_the_items_is_no_pass(both, base_only, new_only, changed, code, against):
    ids = [tuple(map(str, range(n))) for n in (both, base_only, new_only, changed)]
    result = against([GAINED], "max_increase = 0.055", items=MatchedItems(*ids))
    assert result.exit_code == code
    said = result.rules[0].reason or " ".join(result.rules[0].notes)
    assert (f"{both} items paired of" in said) == (both < 100)


@pytest.mark.parametrize(("n_own", "code"), [(2_000, 0), (2_001, 3)])
def test_a_row_with_few_of_its_items_in_the_baseline_is_no_pass(n_own, code, against):
    # 1,000 of its items are paired.
    result = against([GAINED], "max_increase = 0.055", run=[row(3, n_own)])
    assert result.exit_code == code
    if code:
        assert result.rules[0].rows[0].reason == "only 1,000 of its 2,001 items are in the baseline"
        assert against([GAINED], "max_increase = 0.05", run=[row(3, n_own)]).exit_code == 1
