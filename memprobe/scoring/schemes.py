"""Probability of the true token under a sampling scheme: temperature, top-k, top-p, renormalise.

Exactly k tokens are kept by top-k, by logit descending and id ascending; the nucleus is the
smallest set, in that order, whose mass reaches P, the crossing token included.

References: Holtzman et al. (2020), https://arxiv.org/abs/1904.09751, for the nucleus.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from memprobe.tables.requests import Scheme

# Probabilities are summed in float32 over so many tokens, and in float64 over those sums.
BLOCK = 128
# Bins of 1/64 nat below the largest logit; the last one holds everything further away.
N_BINS, BINS_PER_NAT = 2048, 64.0
_COLUMNS = 16_384


class Rows(NamedTuple):
    """The statistics of a chunk of rows.

    Attributes:
        z: Logits, float32, shape (rows, V).
        p: softmax(z) up to the rounding of its normaliser, shape (rows, V).
        z_true: Logit of the true token, shape (rows, 1).
        targets: True token ids, shape (rows,).
        place: 0-based place of the true token by (logit descending, id ascending), shape (rows,);
            exact where it is below the width of `top`.
        top: The largest logits, descending, shape (rows, at least the scheme's top_k or V).
        logprob: ln p of the true token, shape (rows,).
    """

    z: Tensor
    p: Tensor
    z_true: Tensor
    targets: Tensor
    place: Tensor
    top: Tensor
    logprob: Tensor


def scheme_logprob(scheme: Scheme, rows: Rows) -> Tensor:
    """Return ln of the scheme's probability of the true token, float32, shape (rows,).

    -inf where the scheme does not keep the token, NaN where the model's own distribution is undefined.
    """
    undefined = torch.isnan(rows.logprob)
    if scheme.top_k is not None:
        logprob = _within_top_k(scheme, rows, scheme.top_k)
    elif scheme.top_p is not None:
        logprob = _within_nucleus(scheme, rows, scheme.top_p, undefined)
    else:
        logprob = _tempered(scheme, rows).logprob
    return logprob.masked_fill(undefined, float("nan"))


class Tempered(NamedTuple):
    """Logits over a temperature, their softmax, and its logarithm at the true token."""

    z: Tensor
    p: Tensor
    logprob: Tensor


def total_mass(p: Tensor) -> Tensor:
    """Return the sum of each row of p, float64, shape (rows, 1).

    torch sums the normaliser of a softmax in float32, next to a confident token: of a flat tail of 128,000
    tokens it loses up to an eighth. Blocks are summed in float32, which is ten times faster than float64
    throughout; the block with the largest sum, where small terms would be lost, in float64.
    """
    whole = p.shape[1] // BLOCK * BLOCK
    rest = p[:, whole:].sum(1, keepdim=True, dtype=torch.float64)
    if not whole:
        return rest
    blocks = p[:, :whole].view(-1, whole // BLOCK, BLOCK)
    sums = blocks.sum(2)
    largest = sums.argmax(1, keepdim=True)
    exact = blocks.gather(1, largest[:, :, None].expand(-1, -1, BLOCK)).sum(2, dtype=torch.float64)
    others = sums.scatter(1, largest, 0).sum(1, keepdim=True, dtype=torch.float64)
    total: Tensor = others + exact + rest
    return total


def block_sum(x: Tensor) -> Tensor:
    """Return the sum of each row of x, float64, shape (rows, 1): blocks in float32, their sums in float64.

    For terms of like size; `total_mass` is for rows in which one term outweighs all others.
    """
    whole = x.shape[1] // BLOCK * BLOCK
    rest = x[:, whole:].sum(1, keepdim=True, dtype=torch.float64)
    if not whole:
        return rest
    return (
        x[:, :whole].view(-1, whole // BLOCK, BLOCK).sum(2).sum(1, keepdim=True, dtype=torch.float64) + rest
    )


def log_normaliser(p: Tensor, total: Tensor) -> Tensor:
    """Return ln sum exp(z - max z) of each row, float64, shape (rows, 1).

    exp(z - max z) is p over the largest p, so this saves another pass over exp.
    """
    return (total / p.amax(1, keepdim=True)).log_()


def logprobs_of(z: Tensor, ids: Tensor) -> Tensor:
    """Return ln p of some tokens in each row, float32, shape (rows, n_ids); z float32 (rows, V)."""
    p = torch.softmax(z, dim=1)
    gap = z[:, ids] - z.amax(1, keepdim=True)
    return (gap - log_normaliser(p, total_mass(p))).clamp_(max=0).float()


def log_share(gap: Tensor, normaliser: Tensor) -> Tensor:
    """Return ln of the probability of a token whose logit is `gap` from the largest, shape (rows,).

    Taking the difference of logits first keeps all digits where the logits themselves are large.
    """
    return (gap - normaliser).squeeze(1).clamp_(max=0).float()


def _tempered(scheme: Scheme, rows: Rows) -> Tempered:
    if scheme.temperature == 1:
        return Tempered(rows.z, rows.p, rows.logprob)
    z = rows.z / scheme.temperature
    p = torch.softmax(z, dim=1)
    gap = (rows.z_true - rows.top[:, :1]) / scheme.temperature
    return Tempered(z, p, log_share(gap, log_normaliser(p, total_mass(p))))


def _within_top_k(scheme: Scheme, rows: Rows, k: int) -> Tensor:
    kept_z = rows.top[:, :k].double() / scheme.temperature
    n_kept = torch.full_like(rows.place, kept_z.shape[1])
    if scheme.top_p is not None:
        p = torch.softmax(kept_z, dim=1)
        # A token is kept while the mass before it is below P; the first one always is.
        n_kept = ((p.cumsum(1) - p < scheme.top_p).sum(1)).clamp_(min=1)
        outside = torch.arange(kept_z.shape[1], device=p.device) >= n_kept[:, None]
        kept_z = kept_z.masked_fill(outside, float("-inf"))
    logprob = rows.z_true.squeeze(1).double() / scheme.temperature - torch.logsumexp(kept_z, dim=1)
    return torch.where(rows.place < n_kept, logprob.clamp(max=0), float("-inf")).float()


def _within_nucleus(scheme: Scheme, rows: Rows, top_p: float, undefined: Tensor) -> Tensor:
    z, p, whole = _tempered(scheme, rows)
    if undefined.any():
        # A row with NaN has no nucleus to be found.
        z, p = z.masked_fill(undefined[:, None], 0), p.masked_fill(undefined[:, None], 1 / z.shape[1])
    last = crossing_token(z, p, top_p)
    z_true = rows.z_true.squeeze(1) / scheme.temperature
    kept = (z_true > last.z) | ((z_true == last.z) & (rows.targets <= last.token_id))
    logprob = whole.double() - last.mass.log()
    return torch.where(kept, logprob.clamp(max=0), float("-inf")).float()


class Crossing(NamedTuple):
    """The last token of each nucleus; every field has shape (rows,).

    Attributes:
        z: Its logit.
        token_id: Its id.
        mass: Probability of the whole nucleus, itself included, float64.
    """

    z: Tensor
    token_id: Tensor
    mass: Tensor


def crossing_token(z: Tensor, p: Tensor, top_p: float) -> Crossing:
    """Find where the cumulative mass, by (logit descending, id ascending), reaches `top_p`.

    The same as a full sort and a cumulative sum, without sorting V values: a histogram of mass over
    the logit finds the bin in which the mass crosses, and only that bin is sorted.

    Args:
        z: Logits, shape (rows, V).
        p: Their softmax, shape (rows, V); need not sum to 1.
        top_p: Mass to be reached, between 0 and 1.
    """
    bins = (z.amax(1, keepdim=True) - z).mul_(BINS_PER_NAT).clamp_(0, N_BINS - 1).long()
    mass = _histogram(bins, p).cumsum(1)
    goal = mass[:, -1:] * top_p
    crossing = (mass < goal).sum(1, keepdim=True)
    before = torch.where(crossing > 0, mass.gather(1, (crossing - 1).clamp(min=0)), 0.0).squeeze(1)
    row, token = (bins == crossing).nonzero(as_tuple=True)
    order = torch.argsort(z[row, token], descending=True, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    row, token = row[order], token[order]
    n_in_bin = torch.bincount(row, minlength=z.shape[0])
    first = n_in_bin.cumsum(0) - n_in_bin
    running = p[row, token].double().cumsum(0)
    offset = torch.where(first > 0, running[(first - 1).clamp(min=0)], 0.0)
    reached = running - offset[row] + before[row]
    short = torch.zeros_like(n_in_bin).scatter_add_(0, row, (reached < goal.squeeze(1)[row]).long())
    last = first + torch.minimum(short, n_in_bin - 1)
    share = reached[last] / mass[:, -1]
    return Crossing(z=z[row[last], token[last]], token_id=token[last], mass=share)


def _histogram(bins: Tensor, p: Tensor) -> Tensor:
    """Return the mass of each bin, float64, shape (rows, N_BINS).

    Added up in float64, since a bin may hold most of a flat tail; some columns at a time stay in cache.
    """
    mass = torch.zeros(p.shape[0], N_BINS, dtype=torch.float64, device=p.device)
    for begin in range(0, p.shape[1], _COLUMNS):
        some = slice(begin, begin + _COLUMNS)
        mass.scatter_add_(1, bins[:, some], p[:, some].double())
    return mass
