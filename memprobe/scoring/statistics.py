"""Logits to statistics of the true next token, a few rows at a time so that they stay in cache.

Notation: n rows, V vocabulary; z logits, p = softmax(z). Ties are broken by id: of equal logits the
lower id comes first, here, in greedy decoding and in every sampling scheme.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from memprobe.scoring.schemes import Rows, block_sum, log_normaliser, log_share, scheme_logprob, total_mass
from memprobe.scoring.ties import ties_below, top_values
from memprobe.tables.requests import Scheme, Spread, Statistic

# Logits handled at once: 1.6 million float32 stay in the last-level cache of common CPUs.
CHUNK_LOGITS = {"cpu": 1_600_000, "other": 64_000_000}


class TokenStatistics(NamedTuple):
    """Statistics of n true tokens, on the CPU.

    Attributes:
        logprob: float32, shape (n,), ln p of the true token in nats.
        rank: int32, shape (n,), tokens scored strictly higher; 0 is the top, up to ties.
        n_ties: int32, shape (n,), other tokens with exactly the same logit.
        hit: bool, shape (n,), greedy decoding picks the true token.
        entropy: float32, shape (n,), entropy of the distribution in nats.
        margin: float32, shape (n,), logit of the true token minus the best other.
        further: float32, shape (n,) each. Of a scheme: ln of the probability of the true token under it,
            -inf where the scheme does not keep it. Of `Spread`: the standard deviation of ln p.
    """

    logprob: Tensor
    rank: Tensor
    n_ties: Tensor
    hit: Tensor
    entropy: Tensor
    margin: Tensor
    further: dict[Statistic, Tensor]


def token_statistics(
    logits: Tensor, targets: Tensor, further: Sequence[Statistic] = (), *, rows_at_once: int | None = None
) -> TokenStatistics:
    """Score each true token.

    `logprob` equals `logits.float().double().log_softmax(-1)` gathered at the target; `rank`, `n_ties` and
    `hit` are exact counts over the logits upcast to float32.

    Args:
        logits: Unnormalised scores, shape (n, V), any float dtype, any device.
        targets: True token ids, shape (n,), same device.
        further: What to compute in the same pass besides.
        rows_at_once: Rows handled together; changes speed and memory, never the result.

    Raises:
        ValueError: The shapes disagree or a target is outside the vocabulary.
    """
    n_rows, vocabulary = logits.shape
    if targets.shape != (n_rows,):
        raise ValueError(f"targets have shape {tuple(targets.shape)}, expected ({n_rows},)")
    if n_rows and not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary:
        raise ValueError(
            f"targets reach from {int(targets.min())} to {int(targets.max())}, vocabulary {vocabulary}"
        )
    budget = CHUNK_LOGITS["cpu" if logits.device.type == "cpu" else "other"]
    step = rows_at_once or max(1, budget // vocabulary)
    parts = [
        _rows_statistics(logits[i : i + step].float(), targets[i : i + step], further)
        for i in range(0, n_rows, step)
    ]
    return join(parts, further)


def join(parts: Sequence[TokenStatistics], further: Sequence[Statistic]) -> TokenStatistics:
    """Return several statistics as one, in order, on the CPU; of no parts, an empty one."""
    parts = parts or [_nothing(further)]
    return TokenStatistics(
        logprob=torch.cat([part.logprob for part in parts]).cpu(),
        rank=torch.cat([part.rank for part in parts]).cpu(),
        n_ties=torch.cat([part.n_ties for part in parts]).cpu(),
        hit=torch.cat([part.hit for part in parts]).cpu(),
        entropy=torch.cat([part.entropy for part in parts]).cpu(),
        margin=torch.cat([part.margin for part in parts]).cpu(),
        further={each: torch.cat([part.further[each] for part in parts]).cpu() for each in further},
    )


def cut(statistics: TokenStatistics, start: int, stop: int) -> TokenStatistics:
    """Return the statistics of the tokens [start, stop)."""
    return TokenStatistics(
        logprob=statistics.logprob[start:stop],
        rank=statistics.rank[start:stop],
        n_ties=statistics.n_ties[start:stop],
        hit=statistics.hit[start:stop],
        entropy=statistics.entropy[start:stop],
        margin=statistics.margin[start:stop],
        further={each: values[start:stop] for each, values in statistics.further.items()},
    )


def _nothing(further: Sequence[Statistic]) -> TokenStatistics:
    floats, ints, flags = torch.zeros(0), torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.bool)
    return TokenStatistics(floats, ints, ints, flags, floats, floats, dict.fromkeys(further, floats))


def _rows_statistics(z: Tensor, targets: Tensor, further: Sequence[Statistic]) -> TokenStatistics:
    """Score the rows of one chunk: z float32 (rows, V)."""
    z_true = z.gather(1, targets[:, None])
    top = top_values(z, max([2, *(each.top_k or 0 for each in further if isinstance(each, Scheme))]))
    p = torch.softmax(z, dim=1)
    z_max = top[:, :1]
    # Counting with 0/1 floats is three times faster than with booleans and exact below 2**24.
    scratch = torch.empty_like(z)
    rank = torch.gt(z, z_true, out=scratch).sum(1)
    n_ties = torch.eq(z, z_true, out=scratch).sum(1) - 1
    moments = _gap_moments(p, z, z_max, scratch, squared=any(isinstance(each, Spread) for each in further))
    total = total_mass(p)
    normaliser = log_normaliser(p, total)
    logprob = log_share(z_true - z_max, normaliser)
    place = rank + ties_below(z, z_true, targets, (n_ties > 0) & (rank < top.shape[1]))
    rows = Rows(z=z, p=p, z_true=z_true, targets=targets, place=place, top=top, logprob=logprob)
    other = torch.where(rank > 0, top[:, 0], top[:, -1] if top.shape[1] < 2 else top[:, 1])
    return TokenStatistics(
        logprob=logprob,
        rank=rank.int(),
        n_ties=n_ties.int(),
        hit=place == 0,
        entropy=log_share(moments[0] / total, normaliser).abs_(),
        margin=z_true.squeeze(1) - other,
        further={
            each: scheme_logprob(each, rows) if isinstance(each, Scheme) else _spread(moments, total)
            for each in further
        },
    )


def _gap_moments(p: Tensor, z: Tensor, z_max: Tensor, scratch: Tensor, *, squared: bool) -> list[Tensor]:
    """Return sum p g of each row and, if asked, sum p g^2, for g = z - max z; float64, shape (rows, 1) each.

    A masked token (z = -inf) adds nothing.
    """
    gap = torch.sub(z, z_max, out=scratch)
    weighted = gap * p if squared else gap.mul_(p)
    moments = [block_sum(weighted)]
    if squared:
        moments.append(block_sum(weighted.mul_(gap)))
    masked = torch.isnan(moments[0]).squeeze(1)
    if masked.any():
        # 0 times infinity is NaN.
        gap = z[masked] - z_max[masked]
        for power, moment in enumerate(moments, 1):
            moment[masked] = block_sum((p[masked] * gap**power).nan_to_num(nan=0.0))
    return moments


def _spread(moments: Sequence[Tensor], total: Tensor) -> Tensor:
    """Return the standard deviation of ln p from the moments of the gap, float32, shape (rows,).

    ln p is the gap less a constant, so both have one standard deviation.
    """
    mean, square = (moment / total for moment in moments)
    return (square - mean * mean).clamp_(min=0).sqrt_().squeeze(1).float()
