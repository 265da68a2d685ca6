"""Difference-in-differences against its formulas, as they stand, item by item.

Rung: slow recomputation. Values by hand and of another package are in test_did.py.
"""

import math

import numpy as np
import pytest

from memprobe.stats.did import Design, groups, profile

# Both sides do the same sums in float64, in another order.
RTOL = 1e-10
DESIGNS = {
    "varying never": Design(),
    "universal never": Design(base="universal"),
    "varying not_yet": Design(control="not_yet"),
    "varying never anticipation 1": Design(anticipation=1),
    "universal not_yet anticipation 1": Design(base="universal", control="not_yet", anticipation=1),
}


def estimate(y, cohort, never, clusters=None, *, design):
    rng = np.random.default_rng(0)
    return profile(y, cohort, never=never, rng=rng, clusters=clusters, design=design, n_draws=0)


class Slow:
    """The formulas as they stand: one influence vector over all items for each cell."""

    def __init__(self, y, cohort, never, clusters, design) -> None:
        self.n, n_periods = y.shape
        self.clusters = np.arange(self.n) if clusters is None else clusters
        self.first = np.where(never, 10**9, cohort)
        self.cells, self.psi, self.att, self.controls = [], [], [], []
        delta = design.anticipation
        for g in sorted(set(cohort[~never].tolist())):
            if g == n_periods or g - delta < 1:
                continue
            for t in range(design.base == "varying", n_periods):
                before = t < g - delta
                b = t - 1 if before and design.base == "varying" else g - delta - 1
                control = self.first > max(t, b) + delta if design.control == "not_yet" else never
                control = control & (self.first != g)
                if control.any():
                    self.add(g, t, self.first == g, control, y[:, t] - y[:, b])
        self.psi = np.array(self.psi)
        self.att = np.array(self.att)

    def add(self, g, t, treated, control, change) -> None:
        rise, other = change[treated].mean(), change[control].mean()
        psi = treated / treated.mean() * (change - rise) - control / control.mean() * (change - other)
        self.cells.append((g, t))
        self.psi.append(psi)
        self.att.append(rise - other)
        self.controls.append(int(control.sum()))

    def by_cluster(self, psi) -> np.ndarray:
        """psi_c = (n_c / n) * sum over the cluster."""
        names = np.unique(self.clusters)
        return np.array([psi[self.clusters == name].sum() * len(names) / self.n for name in names])

    def error(self, psi) -> float:
        summed = self.by_cluster(psi)
        return math.sqrt((summed**2).sum()) / len(summed)

    def mean(self, chosen, share=None) -> tuple[float, np.ndarray]:
        """Weighted mean and its influence, with the term of the estimated weights."""
        share = np.ones(len(chosen)) if share is None else share
        cohorts = [self.cells[k][0] for k in chosen]
        inside = np.array([self.first == g for g in cohorts])
        p = inside.mean(1) * share
        total = p.sum()
        theta = (p * self.att[chosen]).sum() / total
        psi = (p / total) @ self.psi[chosen]
        off = inside * share[:, None] - p[:, None]
        for k in range(len(chosen)):
            psi = psi + self.att[chosen][k] * (off[k] / total - p[k] * off.sum(0) / total**2)
        return theta, psi


def slow_means(slow: Slow) -> dict[str, tuple[float, np.ndarray]]:
    cells = slow.cells
    post = [k for k, (g, t) in enumerate(cells) if t >= g]
    found = {"simple": slow.mean(post)}
    later = [k for k in post if cells[k][1] > cells[k][0]]
    found["persistent"] = slow.mean(later)
    for kind, key in (
        ("cohort", lambda g, t: g),
        ("calendar", lambda g, t: t),
        ("event", lambda g, t: t - g),
    ):
        used = range(len(cells)) if kind == "event" else post
        for at in sorted({key(*cells[k]) for k in used}):
            found[f"{kind} {at}"] = slow.mean([k for k in used if key(*cells[k]) == at])
    for kind in ("event", "calendar"):
        rows = [row for name, row in found.items() if name.startswith(kind) and int(name.split()[1]) >= 0]
        found[f"{kind} overall"] = (
            float(np.mean([theta for theta, _ in rows])),
            np.mean([psi for _, psi in rows], axis=0),
        )
    periods = np.array([sum(cells[k][0] == cells[j][0] for j in post) for k in post])
    found["cohort overall"] = slow.mean(post, 1 / periods)
    return found


@pytest.mark.parametrize("kind", ["items", "nested", "crossing"])
@pytest.mark.parametrize("name", DESIGNS)
def test_cells_means_and_errors_are_those_of_the_formulas(world, name, kind) -> None:
    y, cohort, never, clusters = world(3, kind=kind)
    design = DESIGNS[name]
    found = estimate(y, cohort, never, clusters, design=design)
    slow = Slow(y, cohort, never, clusters, design)
    assert list(zip(found.cells.cohort, found.cells.period, strict=True)) == slow.cells
    assert found.cells.n_control.tolist() == slow.controls
    assert found.cells.att.value == pytest.approx(slow.att, rel=RTOL, abs=1e-12)
    errors = [slow.error(psi) for psi in slow.psi]
    assert found.cells.att.se == pytest.approx(errors, rel=RTOL, abs=1e-12)
    ours = {}
    for mean in found.aggregations.values():
        if mean.kind not in ("simple", "persistent"):
            rows = zip(mean.key, mean.estimates.value, mean.estimates.se, strict=True)
            ours |= {f"{mean.kind} {key}": (value, se) for key, value, se in rows}
        name = mean.kind if mean.kind in ("simple", "persistent") else f"{mean.kind} overall"
        ours[name] = (mean.overall.value, mean.overall.se)
    theirs = {name: (theta, slow.error(psi)) for name, (theta, psi) in slow_means(slow).items()}
    assert ours.keys() == theirs.keys()
    for name, pair in theirs.items():
        assert ours[name] == pytest.approx(pair, rel=RTOL, abs=1e-12), name


def test_designs_and_clusters_of_the_recomputation_differ(world) -> None:
    errors = set()
    for design in DESIGNS.values():
        for kind in ("items", "nested", "crossing"):
            y, cohort, never, clusters = world(3, kind=kind)
            found = estimate(y, cohort, never, clusters, design=design)
            errors.add(round(found.cells.att.se[-4:].sum() + found.cells.att.se[0], 9))
    assert len(errors) == 3 * len(DESIGNS)


@pytest.mark.parametrize("control", ["never", "not_yet"])
def test_errors_keep_their_digits_where_items_move_far_and_differ_little(world, control) -> None:
    y, cohort, never, _ = world()
    # Each item jumps by its own thousands after the first period; what follows is of size 1.
    y[:, 1:] += np.random.default_rng(4).normal(size=(len(y), 1)) * 1e7
    found = estimate(y, cohort, never, design=Design(control=control))
    slow = Slow(y, cohort, never, None, Design(control=control))
    later = np.array([t > 1 and g > 1 for g, t in slow.cells])
    errors = np.array([slow.error(psi) for psi in slow.psi])
    assert errors[~later].min() > 1e5
    assert errors[later].max() < 10
    # 1e7 in front of a spacing of 2e-9 leaves 8 to 9 digits.
    assert found.cells.att.se == pytest.approx(errors, rel=1e-8)
    thetas = slow_means(slow)
    theirs = slow.error(thetas["cohort 2"][1])
    assert found.aggregations["cohort"].estimates.se[1] == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("kind", ["items", "nested"])
@pytest.mark.parametrize("control", ["never", "not_yet"])
def test_products_of_periods_give_what_going_through_the_clusters_does(
    world, monkeypatch, control, kind
) -> None:
    y, cohort, never, clusters = world(kind=kind)
    one = estimate(y, cohort, never, clusters, design=Design(control=control))
    monkeypatch.setattr(groups, "_MOMENTS", 0)
    other = estimate(y, cohort, never, clusters, design=Design(control=control))
    assert one.cells.att.se == pytest.approx(other.cells.att.se, rel=RTOL)
    assert one.cells.diff.se == pytest.approx(other.cells.diff.se, rel=RTOL)
    assert one.base_gap.overall.se == pytest.approx(other.base_gap.overall.se, rel=RTOL)
    assert one.persistent.se == pytest.approx(other.persistent.se, rel=RTOL)
    assert one.aggregations["event"].estimates.se == pytest.approx(
        other.aggregations["event"].estimates.se, rel=RTOL
    )
