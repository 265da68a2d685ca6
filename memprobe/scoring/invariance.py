"""Check whether an item scores the same alone and inside a ragged batch; if not, no result can be trusted.

Right padding must be invisible: on the fast path because the model is causal, on a model's own path because
it honours the attention mask. A difference in float32 is a defect; a difference in bfloat16 or float16 is
rounding, and is always reported. A model that fails the checks of conduct.py was refused when it was loaded.
Lengths that the model computes differently are read in separate calls, as in a run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring.conduct import TOLERANCE_NATS, holds
from memprobe.scoring.forward import TokenSequence, score_batch, scoring_mode
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.statistics import TokenStatistics
from memprobe.scoring.tokenise import TokenisedItems

_ITEMS = 8


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference for one item between scoring it alone and inside the batch.

    Attributes:
        item_id: The item.
        n_scored: Number of tokens compared.
        gap_nats: Largest |difference| of ln p of a token; a difference is 0 if both are the same infinity.
        n_flips: Number of tokens that greedy decoding picks in one of the two and not in the other.
    """

    item_id: str
    n_scored: int
    gap_nats: float
    n_flips: int


@dataclass(frozen=True, slots=True)
class Invariance:
    """The result of the comparison.

    Attributes:
        gaps: One gap per item.
        path: The path on which the model is scored, `fast` or `own`.
        dtype: The dtype in which the model computes.
        device: The device on which the model computes.
        label: Name of the checkpoint.
    """

    gaps: tuple[Gap, ...]
    path: str
    dtype: str
    device: str
    label: str

    @property
    def gap_nats(self) -> float:
        """Largest gap of all items."""
        return max(gap.gap_nats for gap in self.gaps)

    @property
    def n_flips(self) -> int:
        """Number of greedy choices that flip, over all items."""
        return sum(gap.n_flips for gap in self.gaps)

    @property
    def n_scored(self) -> int:
        """Number of tokens compared, over all items."""
        return sum(gap.n_scored for gap in self.gaps)

    @property
    def holds(self) -> bool:
        """Whether the scores can be trusted: within a tolerance in float32, else always."""
        return holds(self.gap_nats, self.dtype)

    def as_json(self) -> dict[str, Any]:
        """Return the result in a form that JSON can represent."""
        about = {"gap_nats": self.gap_nats, "n_flips": self.n_flips, "n_scored": self.n_scored}
        judged = {"holds": self.holds, "tolerance_nats": TOLERANCE_NATS if self.dtype == "float32" else None}
        return asdict(self) | about | judged


def choose_items(tokenised: TokenisedItems, context_tokens: int | None) -> dict[str, TokenSequence]:
    """Return a few items whose lengths differ as much as possible, alternately short and long.

    Items are cut to the context; items without a token to score are left out.
    """
    found = {}
    for item_id in tokenised.table["item_id"]:
        front = np.asarray(tokenised.front_for(item_id, "text"), dtype=np.int64)
        ids = np.concatenate([front, tokenised.ids[item_id, "text"]])[:context_tokens]
        if len(ids) > max(1, len(front)):
            found[item_id] = TokenSequence(ids, max(1, len(front)))
    by_length = sorted(found, key=lambda item_id: (len(found[item_id].ids), item_id))
    places = np.linspace(0, len(by_length) - 1, min(_ITEMS, len(by_length))).round().astype(int)
    spread = [by_length[place] for place in places]
    turns = [spread[i // 2] if i % 2 == 0 else spread[-1 - i // 2] for i in range(len(spread))]
    return {item_id: found[item_id] for item_id in turns}


def measure_invariance(
    loaded: LoadedModel, items: dict[str, TokenSequence], *, label: str = ""
) -> Invariance:
    """Score each item alone and all of them in one right-padded batch, and compare token by token.

    Raises:
        CheckpointError: The model gives NaN.
        ValueError: There are no items.
    """
    if not items:
        raise ValueError("no items to compare, need at least 1")
    sequences = list(items.values())
    with scoring_mode():
        alone = [score_batch(loaded, [each], [])[0] for each in sequences]
        batched = score_batch(loaded, sequences, [])
    _refuse_nan(items, alone, batched)
    gaps = tuple(_gap(item_id, one, other) for item_id, one, other in zip(items, alone, batched, strict=True))
    dtype = str(next(loaded.model.parameters()).dtype).removeprefix("torch.")
    return Invariance(gaps, "fast" if loaded.fast else "own", dtype, str(loaded.device), label)


def _gap(item_id: str, alone: TokenStatistics, batched: TokenStatistics) -> Gap:
    # Equal infinities count as equal, but their difference is NaN.
    same = alone.logprob == batched.logprob
    difference = torch.where(same, 0.0, (alone.logprob - batched.logprob).abs())
    return Gap(item_id, len(difference), float(difference.max()), int((alone.hit != batched.hit).sum()))


def _refuse_nan(
    items: dict[str, TokenSequence], alone: Sequence[TokenStatistics], batched: Sequence[TokenStatistics]
) -> None:
    for item_id, one, other in zip(items, alone, batched, strict=True):
        if torch.isnan(one.logprob).any() or torch.isnan(other.logprob).any():
            raise CheckpointError(
                "the model scores NaN",
                where=f"item {item_id}",
                fix="the weights hold NaN or overflow in this dtype; try --dtype float32",
            )
