"""Tables and summary rows of profile, computed from the outcomes of items over a sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import History, SequenceResult, no_estimates
from memprobe.probes.profile.settings import Settings
from memprobe.probes.profile.tables import PROFILE, PROFILE_AGG, PROFILE_DROPPED, PROFILE_PRETREND
from memprobe.stats.did import NO_BASE, Design, Estimate, Profile, profile
from memprobe.stats.intervals import FEW_CLUSTERS, LEVEL, NO_SPREAD
from memprobe.tables.clusters import cluster_names
from memprobe.tables.conditions import build
from memprobe.tables.facts import (
    NO_TIME,
    NOT_SAID,
    TOO_EARLY,
    TOO_LATE,
    TRAINED,
    is_control,
    is_timed,
    is_untimed,
)
from memprobe.wording import counted

CI_METHOD = "influence-function-t"
REPEATED = "of more than one exposure"
UNBALANCED = "without a finite outcome at some checkpoint"
PRETREND_P = 0.05
# If means differ by more than a quarter of a standard deviation, linear adjustments must extrapolate: Imbens
# and Rubin (2015), Causal Inference, section 14.2. With few items, half of all gaps are as large by chance,
# so the gap must also be significant at GAP_P.
LARGE_GAP_SD = 0.25
GAP_P = 0.01
# With fewer degrees of freedom, intervals are much wider than with many items: Student's t at 0.975 is 2.78
# with 4 degrees of freedom, and 1.96 in the limit.
FEW_FREEDOM = 5.0
# If fewer items change, Student's t is not valid for a rate.
FEW_HITS = 20
UNITS = {
    "logprob_mean_nats": "nats per token",
    "exact": "fraction",
    "hit_frac": "fraction",
    "rank_mean": "tokens",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """The treated items and the controls.

    Attributes:
        steps: Steps of the checkpoints, ascending.
        treated: `item_id, cohort, batch_id, group` of treated items; cohort is the position of the first
            checkpoint at or after first_step, len(steps) if first_step is after the last checkpoint.
        never: The same columns for items never trained on, with cohort len(steps); with control `untrained`
            also for items first trained on after the last checkpoint.
        n_late: Number of controls that are first trained on after the last checkpoint.
        left_out: Number of items that are neither treated nor never trained on, by reason.
    """

    steps: tuple[int, ...]
    treated: pl.DataFrame
    never: pl.DataFrame
    left_out: Mapping[str, int]
    n_late: int = 0

    @classmethod
    def of(cls, steps: tuple[int, ...], items: pl.DataFrame, control: str, *, repeated: bool) -> Self:
        """Sort the items into treated and never trained on."""
        result = [pl.col("exposures")]
        if "exposure_steps" in items.columns:
            result.append(pl.col("exposure_steps").list.len().cast(pl.Int64))
        often = pl.coalesce(*result, 1) > 1
        timed = items.filter(is_timed())
        # Exposures after the last checkpoint do not count, however many there are.
        is_late = (pl.col("first_step") > steps[-1]) & (control == "untrained")
        late, timed = timed.filter(is_late), timed.filter(~is_late)
        kept = timed if repeated else timed.filter(~often)
        cohort = np.searchsorted(steps, kept["first_step"].to_numpy(), side="left")
        columns = ("item_id", "cohort", "batch_id", "group")
        never = pl.concat([items.filter(is_control()), late]).with_columns(
            cohort=pl.lit(len(steps), pl.Int64)
        )
        left_out = {
            REPEATED: timed.height - kept.height,
            NO_TIME: items.filter(is_untimed()).height,
            NOT_SAID: items[TRAINED].null_count(),
        }
        return cls(
            steps,
            kept.with_columns(cohort=pl.Series(cohort, dtype=pl.Int64)).select(columns),
            never.select(columns),
            {reason: n for reason, n in left_out.items() if n},
            late.height + int((control == "not_yet") * (cohort == len(steps)).sum()),
        )

    @property
    def n_repeated(self) -> int:
        """Number of items left out because they have more than one exposure."""
        return self.left_out.get(REPEATED, 0)

    def with_base(self, anticipation: int) -> bool:
        """Return whether some cohort was scored both before and after it was trained on."""
        cohort = self.treated["cohort"]
        return bool(((cohort > anticipation) & (cohort < len(self.steps))).any())


@dataclass(frozen=True, slots=True)
class _Data:
    """A balanced panel of one outcome: every item has a finite value at every checkpoint.

    Attributes:
        y: Outcomes, shape (n_items, n_steps).
        cohort: Position of the first checkpoint after training, shape (n_items,).
        never: Whether the item is a control that no checkpoint was trained on, shape (n_items,).
        clusters: Cluster numbers, shape (n_items,); None if each item is its own cluster.
        group: Group of each item.
        unbalanced: Ids of the items left out because an outcome is missing or infinite.
    """

    y: NDArray[np.float64]
    cohort: NDArray[np.int64]
    never: NDArray[np.bool_]
    clusters: NDArray[np.int64] | None
    group: list[str | None]
    unbalanced: list[str]


def _data(history: History, panel: Panel, outcome: str, cluster: str) -> _Data:
    """Return the panel of one outcome: items with a finite value at every checkpoint, in the order of ids."""
    wide = (
        history.rows.select("item_id", "step", value=outcome)
        .pivot("step", index="item_id", values="value")
        .select("item_id", *(str(step) for step in panel.steps))
    )
    people = pl.concat(
        [
            panel.treated.with_columns(never=pl.lit(value=False)),
            panel.never.with_columns(never=pl.lit(value=True)),
        ]
    )
    joined = people.join(wide, on="item_id").sort("item_id")
    # One impossible token (ln p is minus infinity) makes an item's differences infinite.
    whole = pl.all_horizontal(pl.col(str(step)).is_finite().fill_null(value=False) for step in panel.steps)
    kept = joined.filter(whole)
    return _Data(
        y=kept.select(str(step) for step in panel.steps).to_numpy().astype(np.float64),
        cohort=kept["cohort"].to_numpy(),
        never=kept["never"].to_numpy(),
        clusters=_clusters(kept, history.items, cluster),
        group=kept["group"].to_list(),
        unbalanced=joined.filter(~whole)["item_id"].to_list(),
    )


def _clusters(kept: pl.DataFrame, items: pl.DataFrame, cluster: str) -> NDArray[np.int64] | None:
    """Return the cluster of each kept item: its batch and its copies; None if each is its own cluster.

    Items without a batch, such as controls, depend only on their copies.
    """
    about = kept.select("item_id").join(items, on="item_id", how="left", maintain_order="left")
    if cluster == "item":
        about = about.with_columns(batch_id=pl.lit(None, dtype=pl.String))
    names = cluster_names(about, "batch_id")
    if about["batch_id"].null_count() == about.height and names.n_unique() == about.height:
        return None
    return names.rank("dense").cast(pl.Int64).to_numpy()


def estimate_outcome(history: History, panel: Panel, outcome: str, settings: Settings) -> SequenceResult:
    """Estimate one outcome's profile.

    Returns:
        The four tables of profile without `model`, the summary rows, and warnings.
    """
    data = _data(history, panel, outcome, settings.cluster)
    try:
        found = _profile(data, settings, settings.draws, history.draws(f"profile {outcome}"))
    except ValueError as error:
        return SequenceResult({}, no_estimates(), (f"{outcome}: {error}",))
    steps = np.asarray(panel.steps)
    tables = {
        PROFILE.name: _cells(found, steps),
        PROFILE_AGG.name: _aggregations(found, steps),
        PROFILE_PRETREND.name: _pretrend(found, steps),
        PROFILE_DROPPED.name: _dropped(found, data, steps),
    }
    named = {name: rows.select(pl.lit(outcome).alias("outcome"), pl.all()) for name, rows in tables.items()}
    estimates = [_estimates(found, data, outcome, None), *_by_group(data, outcome, settings)]
    warnings, left_out = (
        _warnings(found, data, panel, outcome, settings.control),
        _left_out(found, data, panel),
    )
    return SequenceResult(named, pl.concat(estimates), warnings, left_out)


def _left_out(found: Profile, data: _Data, panel: Panel) -> dict[str, int]:
    """Return the number of items that are in no estimate, by reason."""
    counts = dict(panel.left_out)
    counts[UNBALANCED] = len(data.unbalanced)
    for each in found.dropped:
        if each.periods is None:
            last = each.cohort == len(panel.steps)
            reason = TOO_LATE if last else TOO_EARLY if each.reason == NO_BASE else each.reason
            counts[reason] = counts.get(reason, 0) + each.n_items
    return {reason: n for reason, n in counts.items() if n}


def _profile(data: _Data, settings: Settings, n_draws: int, rng: np.random.Generator) -> Profile:
    # With control `untrained`, the panel already counts late items as never trained on.
    control: Literal["never", "not_yet"] = "not_yet" if settings.control == "not_yet" else "never"
    design = Design(settings.base, control, settings.anticipation, balanced_to=settings.balanced_to)
    return profile(
        data.y,
        data.cohort,
        never=data.never,
        rng=rng,
        clusters=data.clusters,
        design=design,
        level=LEVEL,
        n_draws=n_draws,
    )


def _cells(found: Profile, steps: NDArray[np.int64]) -> pl.DataFrame:
    cells = found.cells
    return pl.DataFrame(
        {
            "cohort_step": steps[cells.cohort],
            "step": steps[cells.period],
            "base_step": steps[cells.base],
            "event_time": cells.event_time,
            "att": cells.att.nullable("value"),
            "se_analytic": cells.att.nullable("se"),
            **{name: cells.att.nullable(name) for name in ("se_boot", "lo", "hi", "lo_sim", "hi_sim")},
            "n_treated": cells.n_treated,
            "n_control": cells.n_control,
            "is_post": cells.is_post,
            "diff": cells.diff.nullable("value"),
            "diff_se": cells.diff.nullable("se"),
        },
        schema={
            name: PROFILE.columns[name].dtype for name in PROFILE.columns if name not in ("model", "outcome")
        },
    )


def _aggregations(found: Profile, steps: NDArray[np.int64]) -> pl.DataFrame:
    schema = {
        name: column.dtype for name, column in PROFILE_AGG.columns.items() if name not in ("model", "outcome")
    }
    frames = [pl.DataFrame(schema=schema)]
    for kind, each in found.aggregations.items():
        overall = each.overall
        frames.append(
            pl.DataFrame(
                {
                    "aggregation": [kind],
                    "key": [None],
                    "att": [overall.value],
                    "se": [overall.se],
                    "lo": [overall.lo],
                    "hi": [overall.hi],
                    "lo_sim": [None],
                    "hi_sim": [None],
                    "n_cells": [overall.n_cells],
                },
                schema=schema,
            )
        )
        if kind in ("simple", "persistent"):
            continue
        key = steps[each.key] if kind in ("cohort", "calendar") else each.key
        columns = {"se": "se", **{name: name for name in ("lo", "hi", "lo_sim", "hi_sim")}}
        frames.append(
            pl.DataFrame(
                {
                    "aggregation": [kind] * len(each.key),
                    "key": key,
                    "att": each.estimates.nullable("value"),
                    **{name: each.estimates.nullable(of) for name, of in columns.items()},
                    "n_cells": each.n_cells,
                },
                schema=schema,
            )
        )
    return pl.concat(frames)


def _pretrend(found: Profile, steps: NDArray[np.int64]) -> pl.DataFrame:
    test, gap = found.pretrend, found.base_gap
    sup_reason = None if test.sup_t is not None else "no cell before treatment varies"
    rows: list[dict[str, Any]] = [
        {
            "test": "wald",
            "statistic": test.wald,
            "df": test.df,
            "p_value": test.p_value,
            "n_cells": test.n_tested,
            "reason": test.reason,
        },
        {
            "test": "sup_t",
            "statistic": test.sup_t,
            "p_value": test.sup_t_p_value,
            "n_cells": test.n_cells,
            "reason": sup_reason,
        },
        {
            "test": "base_gap",
            "statistic": gap.overall.value,
            "se": gap.overall.se,
            "p_value": gap.p_value,
            "n_cells": len(gap.cohort),
        },
    ]
    values, errors = gap.estimates.nullable("value"), gap.estimates.nullable("se")
    rows += [
        {"test": "base_gap", "cohort_step": int(steps[cohort]), "statistic": value, "se": se, "n_cells": 1}
        for cohort, value, se in zip(gap.cohort, values, errors, strict=True)
    ]
    return _frame(rows, PROFILE_PRETREND.columns)


def _dropped(found: Profile, data: _Data, steps: NDArray[np.int64]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for each in found.dropped:
        cohort = int(steps[each.cohort]) if each.cohort < len(steps) else None
        for period in each.periods if each.periods is not None else (None,):
            step = None if period is None else int(steps[period])
            rows.append({"cohort_step": cohort, "step": step, "n_items": each.n_items, "reason": each.reason})
    rows += [
        {"item_id": item, "n_items": 1, "reason": "has no finite outcome at some checkpoint"}
        for item in data.unbalanced
    ]
    return _frame(rows, PROFILE_DROPPED.columns)


def _frame(rows: list[dict[str, Any]], columns: Mapping[str, Any]) -> pl.DataFrame:
    schema = {name: column.dtype for name, column in columns.items() if name not in ("model", "outcome")}
    return pl.DataFrame(
        [{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row"
    )


def _estimates(found: Profile, data: _Data, outcome: str, group: str | None) -> pl.DataFrame:
    """Return the summary rows of instantaneous, persistent and residual memorization."""
    named: dict[str, Estimate | None] = {
        "instantaneous": found.instantaneous,
        "persistent": found.persistent,
        "residual": found.residual,
    }
    clusters = len(data.y) if data.clusters is None else len(np.unique(data.clusters))
    none = FEW_CLUSTERS if found.has_single_cluster else NO_SPREAD
    rows = [
        {
            "metric": name,
            "group": group,
            "condition": None if outcome == "logprob_mean_nats" else build(outcome=outcome),
            "estimate": estimate.value,
            "ci_low": estimate.lo if estimate.se else None,
            "ci_high": estimate.hi if estimate.se else None,
            "ci_method": CI_METHOD if estimate.se else none,
            "n_items": len(data.y),
            "n_clusters": clusters,
            "n_missing": len(data.unbalanced),
            "unit": UNITS[outcome],
        }
        for name, estimate in named.items()
        if estimate is not None
    ]
    return pl.DataFrame(rows, schema=no_estimates().schema, orient="row")


def _by_group(data: _Data, outcome: str, settings: Settings) -> list[pl.DataFrame]:
    """Return the summary rows of each group, compared with its own controls, or all if it has none."""
    groups = np.array([group or "" for group in data.group])
    frames = []
    for name in sorted(
        {group for group, never in zip(data.group, data.never, strict=True) if group and not never}
    ):
        own = (groups == name) & data.never
        kept = ((groups == name) & ~data.never) | (own if own.any() else data.never)
        part = _Data(
            data.y[kept],
            data.cohort[kept],
            data.never[kept],
            None if data.clusters is None else data.clusters[kept],
            [name],
            [],
        )
        try:
            found = _profile(part, settings, 0, np.random.default_rng(0))
        except ValueError:
            # Every cohort of the group lacks a base or a control, so the group has no estimate.
            continue
        frames.append(_estimates(found, part, outcome, name))
    return frames


def _warnings(found: Profile, data: _Data, panel: Panel, outcome: str, control: str) -> tuple[str, ...]:
    """Return warnings: controls that differ from the treated before training, and what was left out."""
    texts = []
    # With hundreds of items, the Wald test rejects a true null hypothesis too often; the sup-t test does not.
    test = found.pretrend
    p = test.p_value if test.sup_t_p_value is None else test.sup_t_p_value
    if p is not None and p < PRETREND_P:
        texts.append(
            f"{outcome}: treated and controls part before training (p = {p:.2g}), so the effects are biased"
        )
    if panel.n_late:
        n = counted(panel.n_late, "item")
        texts.append(
            f"{n} first trained on after the last checkpoint among the controls (control = {control})"
        )
    of_found = (*_gap_warning(found), *_size_warning(found), *_few_hits_warning(data, outcome))
    texts += [f"{outcome}: {text}" for text in of_found]
    if data.unbalanced:
        texts.append(f"{outcome}: {counted(len(data.unbalanced), 'item')} left out, {UNBALANCED}")
    if panel.n_repeated:
        texts.append(
            f"{counted(panel.n_repeated, 'item')} of more than one exposure left out (repeated = true keeps "
            "them)"
        )
    return tuple(texts)


def _few_hits_warning(data: _Data, outcome: str) -> list[str]:
    """Return a warning if the outcome is a rate and few items change; see docs/validation/coverage.md."""
    treated = data.y[~data.never]
    n = int((treated != treated[:, :1]).any(axis=1).sum())
    if UNITS[outcome] != "fraction" or not 0 < n < FEW_HITS:
        return []
    return [
        f"only {n} of {counted(len(treated), 'treated item')} ever change, so the intervals of effects lie "
        "too low too often (0.12 where 5 of 100 items are recalled)"
    ]


def _gap_warning(found: Profile) -> list[str]:
    """Return a warning if treated and controls differ much before training, and not by chance."""
    gap = found.base_gap
    if gap.p_value is None or not gap.spread or gap.p_value >= GAP_P:
        return []
    ratio = abs(gap.overall.value) / gap.spread
    if ratio <= LARGE_GAP_SD:
        return []
    return [
        f"before training, treated and controls differ by {gap.overall.value:+.3g} (p = {gap.p_value:.2g}), "
        f"{ratio:.2g} standard deviations of items at the same checkpoints: they may be other texts"
    ]


def _size_warning(found: Profile) -> list[str]:
    """Return warnings if effects have so few clusters that intervals are wide or missing."""
    att, post = found.cells.att, found.cells.is_post
    texts = []
    still = [each for each in (found.instantaneous, found.persistent, found.residual) if each is not None]
    if any(not each.se for each in still) and not found.has_single_cluster:
        texts.append("no item differs from the others of its cohort, so means of effects have no interval")
    if n := int((~att.known & post).sum()):
        why = "one side is a single cluster" if found.has_single_cluster else "all treated items change alike"
        texts.append(f"{n} of {int(post.sum())} effects have no interval, as {why}")
    few = att.known & post & (att.se > 0) & (att.freedom < FEW_FREEDOM)
    if few.any():
        widest = int(np.flatnonzero(few)[att.freedom[few].argmin()])
        half = float(att.hi[widest] - att.value[widest])
        texts.append(
            f"{int(few.sum())} of {int(post.sum())} effects rest on errors with fewer than {FEW_FREEDOM:g} "
            f"degrees of freedom (lowest: {att.freedom[widest]:.1f}, interval +-{half:.3g}): their intervals "
            "count on outcomes that are near normal, and their band is wide; more items or batches in each "
            "cohort, or fewer checkpoints, narrow them"
        )
    return texts
