"""What the tests of statistics share."""

from collections.abc import Callable

import numpy as np
import pytest


def panel(seed: int = 0, *, kind: str = "items", n_periods: int = 6):
    """A panel with cohorts 0 to 4, one after the last period, never treated, and clusters of a kind."""
    g = np.random.default_rng(seed)
    cohort = np.repeat([0, 1, 2, 4, n_periods, 0], [3, 7, 5, 9, 4, 14])
    never = np.arange(len(cohort)) >= len(cohort) - 14
    y = g.normal(size=(len(cohort), 1)) * 3 + g.normal(size=(len(cohort), n_periods)).cumsum(1)
    y += np.where((np.arange(n_periods) >= cohort[:, None]) & ~never[:, None], 1.5, 0) - np.arange(n_periods)
    clusters = {
        "items": None,
        # Two to a cluster, then one of the rest: unequal, each inside one cohort.
        "nested": cohort * 100 + never * 50 + np.arange(len(cohort)) % 7 // 2,
        # Clusters of unequal size with items of several cohorts and of the controls.
        "crossing": g.choice(9, len(cohort), p=np.arange(1, 10) / 45) * 3 - 5,
    }[kind]
    order = g.permutation(len(cohort))
    return y[order], cohort[order], never[order], None if clusters is None else clusters[order]


@pytest.fixture(scope="session")
def world() -> Callable[..., tuple]:
    return panel
