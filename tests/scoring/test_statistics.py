"""Token statistics against hand values, the naive log_softmax, a sort, and their invariances."""

import math

import pytest
import torch

from memprobe.scoring.schemes import BLOCK, logprobs_of
from memprobe.scoring.statistics import cut, join, token_statistics
from memprobe.scoring.ties import top_values
from memprobe.tables.requests import Scheme, Spread

# float32 rounding of one logarithm and two subtractions of numbers of a few nats.
ATOL = 2e-6
SPREAD = Spread()
SCHEMES = (Scheme(), Scheme(top_k=5), Scheme(top_p=0.9), Scheme(0.7, 40, 0.8), Scheme(temperature=1.7))


def drawn(
    rows: int, vocabulary: int, seed: int = 0, *, scale: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, vocabulary, generator=rng) * scale
    return z, torch.randint(vocabulary, (rows,), generator=rng)


def test_two_tokens_by_hand() -> None:
    # p = (1/4, 3/4) from logits (0, ln 3): ln p = -ln 4 and ln 3 - ln 4; entropy of both rows
    # ln 4 - 3/4 ln 3 = 0.5623351446; the margins are -ln 3 and ln 3.
    z = torch.tensor([[0.0, math.log(3)]]).expand(2, -1)
    got = token_statistics(z, torch.tensor([0, 1]))
    assert got.logprob.tolist() == pytest.approx([-math.log(4), math.log(3) - math.log(4)], abs=1e-7)
    assert got.rank.tolist() == [1, 0]
    assert got.n_ties.tolist() == [0, 0]
    assert got.hit.tolist() == [False, True]
    assert got.entropy.tolist() == pytest.approx([0.5623351446] * 2, abs=2e-7)
    assert got.margin.tolist() == pytest.approx([-math.log(3), math.log(3)], abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocabulary", [3, 100, 128, 129, 1000])
def test_logprob_is_that_of_the_naive_line_whatever_the_dtype(dtype, vocabulary) -> None:
    z, targets = drawn(50, vocabulary)
    z = z.to(dtype)
    naive = z.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    got = token_statistics(z, targets).logprob
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, naive, atol=ATOL, rtol=0)


def test_a_shift_of_all_logits_changes_nothing_even_where_float32_has_few_digits_left() -> None:
    # Multiples of 1/64 stay exact after adding 4096, so whatever differs is the formula's own rounding;
    # ln sum exp(z) itself would be rounded to 1/2048.
    z, targets = drawn(30, 300)
    z = (z * 64).round() / 64
    plain, shifted = (token_statistics(each, targets, SCHEMES) for each in (z, z + 4096))
    torch.testing.assert_close(shifted.logprob, plain.logprob, atol=ATOL, rtol=0)
    torch.testing.assert_close(shifted.entropy, plain.entropy, atol=ATOL, rtol=0)
    assert shifted.rank.equal(plain.rank)
    for scheme in SCHEMES:
        # A temperature other than 1 rounds the logits themselves, by up to 4096 / 0.7 / 2**24.
        loose = 1e-3 if scheme.temperature != 1 else 1e-5
        torch.testing.assert_close(shifted.further[scheme], plain.further[scheme], atol=loose, rtol=0)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_rank_ties_hit_and_margin_are_those_of_a_sort(levels) -> None:
    z, _ = drawn(12, 70, scale=1.0)
    z = (z * levels).round() / levels  # few levels: heavy ties
    for target in (0, 1, 33, 69):
        got = token_statistics(z, torch.full((12,), target))
        for row, logits in enumerate(z.tolist()):
            true = logits[target]
            others = [value for token, value in enumerate(logits) if token != target]
            order = sorted(range(70), key=lambda token: (-logits[token], token))
            assert got.rank[row] == sum(value > true for value in others)
            assert got.n_ties[row] == sum(value == true for value in others)
            assert got.hit[row] == (order[0] == target)
            assert got.margin[row].item() == pytest.approx(true - max(others), abs=1e-6)


def test_of_equal_top_logits_only_the_lowest_id_is_a_hit_and_the_margin_is_zero() -> None:
    z = torch.tensor([[1.0, 4.0, 4.0, 4.0, 0.0]]).expand(5, -1)
    got = token_statistics(z, torch.arange(5))
    assert got.hit.tolist() == [False, True, False, False, False]
    assert got.rank.tolist() == [3, 0, 0, 0, 4]
    assert got.n_ties.tolist() == [0, 2, 2, 2, 0]
    assert got.margin.tolist() == [-3.0, 0.0, 0.0, 0.0, -4.0]


def test_hit_is_what_argmax_picks() -> None:
    z = (drawn(200, 40, scale=1.0)[0] * 2).round()
    best = z.argmax(1)
    assert token_statistics(z, best).hit.all()
    assert not token_statistics(z, (best + 1) % 40).hit.any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("vocabulary", [7, 1000, 40_000])
def test_rows_at_once_changes_no_bit(vocabulary, threads) -> None:
    z, targets = drawn(11, vocabulary)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = [token_statistics(z, targets, SCHEMES, rows_at_once=n) for n in (1, 2, 5, 99)]
    finally:
        torch.set_num_threads(before)
    for other in runs[1:]:
        for name in ("logprob", "rank", "n_ties", "hit", "entropy", "margin"):
            assert getattr(other, name).equal(getattr(runs[0], name)), name
        for scheme in SCHEMES:
            assert other.further[scheme].equal(runs[0].further[scheme]), scheme.name


def test_entropy_is_the_sum_over_the_distribution_and_lies_between_zero_and_ln_v() -> None:
    z, targets = drawn(20, 300)
    p = z.double().softmax(-1)
    expected = -(p * p.log()).sum(1).float()
    torch.testing.assert_close(token_statistics(z, targets).entropy, expected, atol=ATOL, rtol=0)
    flat = token_statistics(torch.zeros(1, 300), torch.tensor([7]))
    assert flat.entropy.item() == pytest.approx(math.log(300), abs=ATOL)
    assert flat.logprob.item() == pytest.approx(-math.log(300), abs=ATOL)
    peaked = torch.zeros(1, 300)
    peaked[0, 4] = 500.0
    certain = token_statistics(peaked, torch.tensor([4]))
    assert (certain.entropy.item(), certain.logprob.item()) == (0.0, 0.0)


def spread_of(z: torch.Tensor) -> torch.Tensor:
    return token_statistics(z, torch.zeros(len(z), dtype=torch.int64), (SPREAD,)).further[SPREAD]


def test_the_spread_by_hand() -> None:
    # p = (1/4, 3/4): both ln p are ln 3 apart, so sd = sqrt(1/4 3/4) ln 3. Equal logits and a certain
    # token do not vary.
    z = torch.tensor([[0.0, math.log(3)], [1.0, 1.0], [0.0, -200.0]])
    assert spread_of(z).tolist() == pytest.approx([math.sqrt(3) / 4 * math.log(3), 0.0, 0.0], abs=1e-7)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("vocabulary", [3, 128, 1000, 50_304])
def test_the_spread_is_that_of_float64(vocabulary, scale) -> None:
    z, _ = drawn(6, vocabulary, scale=scale)
    for shifted in (z, z + 64):
        logprob = shifted.double().log_softmax(-1)
        p = logprob.exp()
        mean = (p * logprob).sum(1, keepdim=True)
        wanted = (p * (logprob - mean) ** 2).sum(1).sqrt()
        torch.testing.assert_close(spread_of(shifted).double(), wanted, rtol=1e-6, atol=1e-7)


def test_masked_logits_do_not_vary_and_touch_no_other_row() -> None:
    z, _ = drawn(3, 300)
    alone = spread_of(z)
    masked = torch.cat([z, torch.full((3, 50), float("-inf"))], dim=1)
    torch.testing.assert_close(spread_of(masked), alone, rtol=1e-6, atol=0)
    beside = z.clone()
    beside[1, 7:] = float("-inf")
    assert spread_of(beside)[[0, 2]].equal(alone[[0, 2]])
    assert spread_of(beside)[1].item() == pytest.approx(spread_of(z[1:2, :7]).item(), rel=1e-6)


def test_the_spread_changes_no_other_statistic() -> None:
    z, targets = drawn(20, 1000)
    plain, more = (token_statistics(z, targets, each) for each in (SCHEMES, (*SCHEMES, SPREAD)))
    for name in ("logprob", "rank", "n_ties", "hit", "entropy", "margin"):
        assert getattr(plain, name).equal(getattr(more, name))
    assert all(plain.further[scheme].equal(more.further[scheme]) for scheme in SCHEMES)


def test_masked_logits_take_no_mass_and_a_masked_true_token_is_impossible() -> None:
    z, _ = drawn(6, 50)
    z[:, ::3] = -math.inf
    kept = [token for token in range(50) if token % 3]
    got, alone = token_statistics(z, torch.full((6,), 4)), z[:, kept]
    p = alone.double().softmax(-1)
    torch.testing.assert_close(got.logprob, p.log()[:, kept.index(4)].float(), atol=ATOL, rtol=0)
    torch.testing.assert_close(got.entropy, -(p * p.log()).sum(1).float(), atol=ATOL, rtol=0)
    impossible = token_statistics(z, torch.full((6,), 3), SCHEMES)
    assert (impossible.logprob == -math.inf).all()
    assert (impossible.rank == len(kept)).all()
    assert not impossible.hit.any()
    assert (impossible.entropy == got.entropy).all()
    for scheme in (Scheme(), Scheme(top_k=5), Scheme(top_p=0.9)):
        assert (impossible.further[scheme] == -math.inf).all()


def test_one_masked_row_leaves_its_neighbours_as_they_are() -> None:
    z, targets = drawn(5, 40)
    masked = z.clone()
    masked[2, 1:] = -math.inf
    plain, beside = (token_statistics(each, targets) for each in (z, masked))
    others = [0, 1, 3, 4]
    assert beside.entropy[others].equal(plain.entropy[others])
    assert beside.entropy[2] == 0


def test_a_vocabulary_of_one_is_certain() -> None:
    got = token_statistics(torch.tensor([[5.0], [-3.0]]), torch.tensor([0, 0]), SCHEMES)
    assert got.logprob.tolist() == got.entropy.tolist() == [0.0, 0.0]
    assert got.hit.all()
    assert all(values.tolist() == [0.0, 0.0] for values in got.further.values())


def test_nan_logits_stay_nan_under_every_scheme_and_touch_no_other_row() -> None:
    z, targets = drawn(4, 60)
    broken = z.clone()
    broken[1, 17] = math.nan
    broken[2] = math.inf
    plain, got = (token_statistics(each, targets, SCHEMES) for each in (z, broken))
    assert got.logprob.isnan().tolist() == [False, True, True, False]
    assert got.entropy.isnan().tolist() == [False, True, True, False]
    for scheme in SCHEMES:
        assert got.further[scheme].isnan().tolist() == [False, True, True, False], scheme.name
        torch.testing.assert_close(
            got.further[scheme][[0, 3]], plain.further[scheme][[0, 3]], atol=ATOL, rtol=0
        )


def test_every_field_has_one_value_per_row() -> None:
    z, targets = drawn(9, 33)
    got = token_statistics(z, targets, SCHEMES)
    fields = (got.logprob, got.rank, got.n_ties, got.hit, got.entropy, got.margin, *got.further.values())
    assert {field.shape for field in fields} == {(9,)}
    dtypes = (torch.float32, torch.int32, torch.int32, torch.bool, torch.float32, torch.float32)
    assert tuple(field.dtype for field in fields[:6]) == dtypes
    assert {values.dtype for values in got.further.values()} == {torch.float32}


def test_of_no_rows_the_statistics_are_empty() -> None:
    got = token_statistics(torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64), SCHEMES)
    assert got.logprob.shape == got.further[SCHEMES[2]].shape == (0,)
    assert got.rank.dtype == torch.int32


def test_cut_takes_a_stretch_of_every_field_and_join_puts_them_together() -> None:
    z, targets = drawn(7, 20)
    whole = token_statistics(z, targets, SCHEMES)
    again = join([cut(whole, 0, 3), cut(whole, 3, 7)], SCHEMES)
    for name in ("logprob", "rank", "n_ties", "hit", "entropy", "margin"):
        assert getattr(again, name).equal(getattr(whole, name))
        assert getattr(cut(whole, 2, 5), name).equal(getattr(whole, name)[2:5])
    assert cut(whole, 2, 5).further[SCHEMES[1]].equal(whole.further[SCHEMES[1]][2:5])


@pytest.mark.parametrize("targets", [torch.zeros(3, dtype=torch.int64), torch.zeros(4, 1, dtype=torch.int64)])
def test_targets_of_another_shape_are_refused(targets) -> None:
    with pytest.raises(ValueError, match=r"targets have shape .*expected \(4,\)"):
        token_statistics(torch.zeros(4, 5), targets)


@pytest.mark.parametrize("bad", [-1, 5])
def test_a_target_outside_the_vocabulary_is_refused(bad) -> None:
    with pytest.raises(ValueError, match="vocabulary 5"):
        token_statistics(torch.zeros(2, 5), torch.tensor([0, bad]))


@pytest.mark.parametrize("vocabulary", [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK, 1000, 5003])
@pytest.mark.parametrize("k", [1, 2, 6, 40])
def test_top_values_are_those_of_topk(vocabulary, k) -> None:
    z, _ = drawn(20, vocabulary)
    tied = (z / 2).round()
    ramp = torch.arange(vocabulary, dtype=torch.float32).expand(2, -1)  # all of the top in one block
    for values in (z, tied, ramp, -z.abs() - 1e4):
        expected = values.topk(min(k, vocabulary), dim=1).values
        assert top_values(values, k).equal(expected)
        assert expected.shape == (len(values), min(k, vocabulary))


@pytest.mark.parametrize("gap", [5.0, 12.0, 18.0, 22.0])
@pytest.mark.parametrize("vocabulary", [100, 50_304, 128_000])
def test_a_confident_token_over_a_flat_tail_keeps_the_mass_of_the_tail(gap, vocabulary) -> None:
    # torch's own softmax and log_softmax are off by up to 2.6e-4 nats here: 1.3% of p_z of 50 tokens.
    z, _ = drawn(2, vocabulary, scale=0.3)
    z[:, 7] = gap
    targets = torch.tensor([7, 9])
    exact = z.double().log_softmax(1)
    got = token_statistics(z, targets, (Scheme(), Scheme(temperature=0.9), Scheme(top_p=0.9999)))
    truth = exact.gather(1, targets[:, None])[:, 0]
    assert got.logprob.double() == pytest.approx(truth, rel=3e-7)
    assert got.entropy.double() == pytest.approx(-(exact.exp() * exact).sum(1), rel=3e-6)
    assert got.further[Scheme()].equal(got.logprob)
    cooled = (z.double() / 0.9).log_softmax(1).gather(1, targets[:, None])[:, 0]
    assert got.further[Scheme(temperature=0.9)].double() == pytest.approx(cooled, rel=1e-6)
    some = logprobs_of(z, targets).double()
    assert some == pytest.approx(exact[:, targets], rel=3e-7)


def test_a_nucleus_that_ends_in_a_flat_tail_is_normalised_by_all_of_it() -> None:
    # Of 100,000 equal logits below and 1 above: p is e^11 / (e^11 + 1e5) of the top, 1 / (e^11 + 1e5) each.
    z = torch.zeros(1, 100_001)
    z[0, 0] = 11.0
    total = math.exp(11) + 1e5
    kept = math.ceil(0.9 * total - math.exp(11))
    got = token_statistics(z, torch.tensor([0]), (Scheme(top_p=0.9),)).further[Scheme(top_p=0.9)]
    # A single token more or less, 6e-6 of the mass, is rounding.
    assert got.item() == pytest.approx(11 - math.log(math.exp(11) + kept), abs=1e-5)
