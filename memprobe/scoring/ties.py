"""The largest logits of each row, and the ties with a lower id."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from memprobe.scoring.schemes import BLOCK


def top_values(z: Tensor, k: int) -> Tensor:
    """Return the k largest values of each row, descending, shape (rows, min(k, V)).

    Equal to `z.topk(k).values`, twice as fast on a CPU: the k largest values are in the k blocks of
    columns with the largest maxima (were one elsewhere, each of those k blocks would hold a value
    at least as large), so only those blocks are searched.
    """
    rows, vocabulary = z.shape
    k = min(k, vocabulary)
    n_blocks = -(-vocabulary // BLOCK)
    if n_blocks <= k:
        return z.topk(k, dim=1).values
    if vocabulary % BLOCK:
        z = F.pad(z, (0, n_blocks * BLOCK - vocabulary), value=float("-inf"))
    blocks = z.view(rows, n_blocks, BLOCK)
    best = blocks.amax(2).topk(k, dim=1, sorted=False).indices
    candidates = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    return candidates.topk(k, dim=1).values


def ties_below(z: Tensor, z_true: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
    """Count the tokens with the same logit and a lower id, where `wanted`; elsewhere 0.

    Only rows whose true token ties near the top need it: everywhere else the place among equals
    decides nothing.
    """
    below = torch.zeros_like(targets)
    if wanted.any():
        ids = torch.arange(z.shape[1], device=z.device)
        same = (z[wanted] == z_true[wanted]) & (ids < targets[wanted, None])
        below[wanted] = same.sum(1)
    return below
