"""Schemes against hand values, a full sort in float64, transformers' own warpers, and sums to one."""

import itertools
import math

import numpy as np
import pytest
import torch

from memprobe.scoring.schemes import N_BINS, crossing_token
from memprobe.scoring.statistics import token_statistics
from memprobe.tables.requests import Scheme

# float32 softmax against float64: rounding of sums over at most 5,000 probabilities.
ATOL = 2e-5
# Where the mass comes this close to P, float32 may take one token more or less than float64.
BORDERLINE = 2e-6

SCHEMES = [
    Scheme(),
    Scheme(temperature=0.5),
    Scheme(temperature=2.0),
    Scheme(top_k=1),
    Scheme(top_k=3),
    Scheme(top_k=40),
    Scheme(top_k=10_000),
    Scheme(top_p=0.1),
    Scheme(top_p=0.9),
    Scheme(top_p=0.999),
    Scheme(temperature=0.7, top_p=0.8),
    Scheme(temperature=1.5, top_k=7),
    Scheme(top_k=20, top_p=0.6),
    Scheme(temperature=0.6, top_k=50, top_p=0.95),
]


def ln(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor(probabilities).log()[None]


def one(z: torch.Tensor, target: int, scheme: Scheme) -> float:
    """Probability of one token under a scheme."""
    return token_statistics(z, torch.tensor([target]), [scheme]).further[scheme].exp().item()


def every(row: torch.Tensor, scheme: Scheme) -> np.ndarray:
    """ln p of every token of one row of logits, each as the target, shape (V,)."""
    z = row.expand(len(row), -1)
    return token_statistics(z, torch.arange(len(row)), [scheme]).further[scheme].double().numpy()


def by_sorting(row: torch.Tensor, scheme: Scheme) -> tuple[np.ndarray, bool]:
    """The definition by a full sort: ln p of every token, and whether the border of the nucleus is safe."""
    z = row.double().numpy() / scheme.temperature
    order = sorted(range(len(z)), key=lambda token: (-z[token], token))[: scheme.top_k]
    safe = True
    if scheme.top_p is not None:
        p = np.exp(z[order] - z[order[0]])
        p /= p.sum()
        before = np.concatenate([[0], p.cumsum()[:-1]])
        safe = bool(np.abs(before - scheme.top_p).min() > BORDERLINE)
        order = [token for token, mass in zip(order, before, strict=True) if mass < scheme.top_p]
    out = np.full(len(z), -math.inf)
    out[order] = z[order] - z[order[0]] - np.log(np.exp(z[order] - z[order[0]]).sum())
    return out, safe


def rows_of_all_kinds(vocabulary: int) -> dict[str, torch.Tensor]:
    z = torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    return {
        "usual": z * 3,
        "flat": z * 1e-3,
        "equal": torch.zeros(vocabulary),
        "peaked": z * 30,
        "certain": torch.nn.functional.one_hot(torch.tensor(vocabulary // 2), vocabulary) * 200.0,
        "heavy ties": (z * 2).round(),
        "two levels": (z > 0).float() * 3,
        "ramp": torch.linspace(0, 60, vocabulary),
        "masked": torch.where(torch.arange(vocabulary) % 4 == 1, -math.inf, z * 2),
        "wide": z * 300,  # most lie outside the histogram's bins
    }


def test_top_two_by_hand() -> None:
    # (.5, .3, .15, .05), k = 2: .3 / (.5 + .3) = .375; the third token is not kept.
    z = ln([0.5, 0.3, 0.15, 0.05])
    assert one(z, 1, Scheme(top_k=2)) == pytest.approx(0.375, abs=1e-7)
    assert one(z, 0, Scheme(top_k=2)) == pytest.approx(0.625, abs=1e-7)
    assert one(z, 2, Scheme(top_k=2)) == 0


def test_temperature_comes_before_top_k_by_hand() -> None:
    # T = 1/2 squares: .25 : .09; .09 / .34 = 0.2647058824. Squaring afterwards gives the same, so
    # top_p tells the order: after squaring .25 / .365 = .68 reaches .6 alone, before it .5 does not.
    z = ln([0.5, 0.3, 0.15, 0.05])
    assert one(z, 1, Scheme(temperature=0.5, top_k=2)) == pytest.approx(0.2647058824, abs=1e-7)
    assert one(z, 0, Scheme(temperature=0.5, top_p=0.6)) == pytest.approx(1)
    assert one(z, 0, Scheme(top_p=0.6)) == pytest.approx(0.625, abs=1e-6)


def test_top_k_comes_before_top_p_by_hand() -> None:
    # k = 3 leaves .5, .3, .15 of .95: the first two hold .842 >= .82, so the third falls.
    # The nucleus alone keeps three: .5 + .3 < .82; were it first, k = 3 would keep three.
    z = ln([0.5, 0.3, 0.15, 0.05])
    assert one(z, 2, Scheme(top_k=3, top_p=0.82)) == 0
    assert one(z, 1, Scheme(top_k=3, top_p=0.82)) == pytest.approx(0.375, abs=1e-6)
    assert one(z, 2, Scheme(top_p=0.82)) == pytest.approx(0.15 / 0.95, abs=1e-6)


def test_the_token_that_crosses_p_is_kept_and_the_next_is_not() -> None:
    # .5 < .6, .5 + .3 >= .6: two are kept, .5 / .8 and .3 / .8.
    z = ln([0.05, 0.3, 0.15, 0.5])
    kept = [one(z, token, Scheme(top_p=0.6)) for token in range(4)]
    assert kept == pytest.approx([0, 0.375, 0, 0.625], abs=1e-6)


def test_a_nucleus_smaller_than_the_top_token_keeps_that_token() -> None:
    z = ln([0.3, 0.5, 0.2])
    assert [one(z, token, Scheme(top_p=0.01)) for token in range(3)] == pytest.approx([0, 1, 0], abs=1e-6)
    assert [one(z, token, Scheme(top_k=3, top_p=0.01)) for token in range(3)] == pytest.approx([0, 1, 0])


@pytest.mark.parametrize("scheme", [Scheme(top_k=1), Scheme(top_p=0.2), Scheme(top_k=2, top_p=0.3)])
def test_of_two_equal_top_logits_exactly_one_is_kept_and_it_is_the_lower_id(scheme) -> None:
    z = torch.tensor([[0.0, 5.0, 5.0, 1.0]])
    assert [one(z, token, scheme) for token in range(4)] == pytest.approx([0, 1, 0, 0], abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("vocabulary", [2, 5, 127, 300])
def test_every_token_of_every_kind_of_row_has_the_probability_of_a_full_sort(vocabulary, scheme) -> None:
    for kind, row in rows_of_all_kinds(vocabulary).items():
        expected, safe = by_sorting(row, scheme)
        got = every(row, scheme)
        if safe:
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected), err_msg=kind)
            # Logits of hundreds are themselves rounded by T: relative to their size.
            np.testing.assert_allclose(got, expected, atol=ATOL, rtol=1e-6, err_msg=kind)
        else:
            # One token more or less at the border changes the others by its own share at most.
            assert abs(int(np.isfinite(got).sum()) - int(np.isfinite(expected).sum())) <= 1, kind


def test_the_borders_that_are_left_out_above_are_few() -> None:
    safe = [
        by_sorting(row, scheme)[1]
        for vocabulary, scheme in itertools.product([2, 5, 127, 300], SCHEMES)
        for row in rows_of_all_kinds(vocabulary).values()
    ]
    assert safe.count(False) < 0.05 * len(safe)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_the_probabilities_of_all_tokens_sum_to_one(scheme) -> None:
    for kind, row in rows_of_all_kinds(200).items():
        assert np.exp(every(row, scheme)).sum() == pytest.approx(1, abs=ATOL), kind


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_low_precision_are_upcast_before_anything_else(dtype) -> None:
    z = (torch.randn(60, generator=torch.Generator().manual_seed(3)) * 4).to(dtype)
    assert len(z.unique()) < 60 or dtype == torch.float16  # bfloat16 ties
    for scheme in SCHEMES:
        expected, safe = by_sorting(z.float(), scheme)
        if safe:
            np.testing.assert_allclose(every(z, scheme), expected, atol=ATOL)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_agrees_with_the_warpers_that_generate_samples_with(scheme) -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    z = torch.randn(40, 500, generator=torch.Generator().manual_seed(5)) * 2.5
    assert all(len(row.unique()) == 500 for row in z)  # without ties the definitions agree
    warped = TemperatureLogitsWarper(scheme.temperature)(None, z)
    warped = TopKLogitsWarper(min(scheme.top_k, 500))(None, warped) if scheme.top_k else warped
    warped = TopPLogitsWarper(scheme.top_p)(None, warped) if scheme.top_p else warped
    expected = warped.log_softmax(-1)
    order = z.argsort(1, descending=True)
    for place in (0, 1, 2, 6, 20, 39, 40, 200):
        targets = order[:, place]
        got = token_statistics(z, targets, [scheme]).further[scheme]
        want = expected.gather(1, targets[:, None])[:, 0]
        assert got.isfinite().equal(want.isfinite()), place
        torch.testing.assert_close(got, want, atol=ATOL, rtol=0)


def test_top_k_as_wide_as_the_vocabulary_and_t_one_are_the_full_distribution() -> None:
    row = rows_of_all_kinds(90)["usual"]
    full = every(row, Scheme())
    np.testing.assert_allclose(every(row, Scheme(top_k=90)), full, atol=ATOL)
    np.testing.assert_allclose(full, row.double().log_softmax(0).numpy(), atol=ATOL)


def test_a_scheme_among_others_has_the_bits_that_it_has_alone() -> None:
    z = torch.randn(30, 400, generator=torch.Generator().manual_seed(8))
    targets = torch.arange(30)
    together = token_statistics(z, targets, SCHEMES).further
    for scheme in SCHEMES:
        alone = token_statistics(z, targets, [scheme]).further[scheme]
        # A wider search for the top values changes no value, so nor do the sums over them.
        assert together[scheme].equal(alone), scheme.name


def test_the_crossing_token_in_a_large_flat_vocabulary_is_found_without_sorting_it() -> None:
    # 5,000 equal logits: the nucleus of .5 is the first 2,500 ids, the last of which crosses.
    z = torch.zeros(2, 5000)
    z[1, 4321] = 20.0  # e**20 against 4,999: alone far above .5
    last = crossing_token(z, z.softmax(1), 0.5)
    assert abs(int(last.token_id[0]) - 2499) <= 1
    assert last.mass[0].item() == pytest.approx(0.5, abs=3e-4)
    assert int(last.token_id[1]) == 4321
    assert [field.shape for field in last] == [(2,)] * 3


def test_where_rounding_leaves_all_mass_under_p_the_nucleus_is_everything() -> None:
    # In float32 the probabilities of many rows sum to a little less than this P.
    scheme = Scheme(top_p=1 - 1e-9)
    z = torch.randn(200, 300, generator=torch.Generator().manual_seed(6))
    assert (z.softmax(1).double().sum(1) < scheme.top_p).sum() > 20
    # Even the least likely token has far more mass than rounding loses, so none is cut off.
    assert z.softmax(1).min() > 1e-6
    for targets in (z.argmin(1), z.argmax(1)):
        got = token_statistics(z, targets, [scheme])
        torch.testing.assert_close(got.further[scheme], got.logprob, atol=ATOL, rtol=0)


def test_a_logit_far_below_the_histogram_still_has_its_place_in_the_nucleus() -> None:
    # Two tokens 40 and 41 nats below a third, all of the rest masked: the last bin holds both.
    z = torch.full((1, 10), -math.inf)
    z[0, 3], z[0, 5], z[0, 7] = 0.0, -40.0, -41.0
    assert N_BINS / 64 < 40
    assert one(z, 3, Scheme(top_p=0.999999)) == pytest.approx(1)
    assert one(z, 5, Scheme(top_p=0.999999)) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.0}, "top_p is 1.0"),
    ],
)
def test_an_impossible_scheme_is_refused(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        Scheme(**values)
