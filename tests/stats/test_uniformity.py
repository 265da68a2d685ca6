"""The Kolmogorov-Smirnov test of an even spread: hand arithmetic, printed critical values, simulation."""

import numpy as np
import pytest

from memprobe.stats.uniformity import uniformity

# Printed critical values have three digits.
PRINTED = 0.003


def by_definition(shares) -> float:
    """The largest distance, looked for just before and at each place."""
    values = sorted(shares)
    n = len(values)
    return max(max((i + 1) / n - x, x - i / n) for i, x in enumerate(values))


def test_one_place_by_hand() -> None:
    # F jumps from 0 to 1 at 0.1: 0.1 before, 0.9 behind. P(max(U, 1 - U) >= 0.9) = 0.2.
    found = uniformity([0.1])
    assert found.distance == pytest.approx(0.9, abs=1e-12)
    assert found.p == pytest.approx(0.2, abs=1e-9)
    assert found.n == 1


def test_the_middle_of_each_half_is_as_even_as_two_places_can_be() -> None:
    found = uniformity([0.75, 0.25])
    assert found.distance == pytest.approx(0.25, abs=1e-12)
    assert found.p == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("n", "critical"), [(5, 0.565), (10, 0.410), (20, 0.294)])
def test_critical_values_are_those_in_print(n, critical) -> None:
    # Massey (1951), table 1, level 0.05. Places i (1 - D) / n lie D i / n in front of even ones: D at i = n.
    found = uniformity([i * (1 - critical) / n for i in range(1, n + 1)])
    assert found.distance == pytest.approx(critical, abs=1e-12)
    assert found.p == pytest.approx(0.05, abs=PRINTED)


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_its_definition_and_a_mirror_changes_nothing(seed) -> None:
    shares = np.random.default_rng(seed).beta(2, 3, 37)
    found = uniformity(shares)
    assert found.distance == pytest.approx(by_definition(shares), abs=1e-12)
    assert uniformity(1 - shares).distance == pytest.approx(found.distance, abs=1e-12)
    assert uniformity(shares[::-1]) == found


def test_p_is_even_where_the_spread_is() -> None:
    rng = np.random.default_rng(0)
    # 400 tests: the share below 0.05 is within 0.05 +- 3 sqrt(0.05 * 0.95 / 400) = 0.033.
    low = np.mean([uniformity(rng.random(30)).p < 0.05 for _ in range(400)])
    assert abs(low - 0.05) < 0.033


@pytest.mark.parametrize("shares", [[], [-0.1], [1.1], [float("nan")]])
def test_what_is_no_share_is_refused(shares) -> None:
    with pytest.raises(ValueError, match="want shares"):
        uniformity(shares)
