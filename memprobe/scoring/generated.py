"""Rows of spans whose suffix is really generated, with its agreement with the true suffix."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.scoring.generate import Continuation, greedy, lcp_tokens, matched
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.rouge import rouge
from memprobe.scoring.tokenise import TokenisedItems

Row = dict[str, Any]


def known_hits(rows: list[Row]) -> dict[tuple[Any, ...], NDArray[np.bool_]]:
    """Return the teacher-forced hits of each `tokens` span, by item, part, start, score_from and stop."""
    return {
        (row["item_id"], row["part"], row["start"], row["score_from"], row["stop"]): row["hit"]
        for row in rows
        if row["detail"] == "tokens"
    }


def generated_rows(
    loaded: LoadedModel,
    tokenised: TokenisedItems,
    requests: pl.DataFrame,
    hits: dict[tuple[Any, ...], NDArray[np.bool_]],
    include_text: bool,
) -> list[Row]:
    """Generate a greedy continuation for each request, and compare it with the true tokens.

    Args:
        loaded: The model.
        tokenised: The items with their ids.
        requests: Rows of `REQUESTS` with detail `generate` or `verify`.
        hits: The result of `known_hits`: where the first miss is known, `verify` generates up to that token.
        include_text: Whether to add the generated text.
    """
    asked = list(requests.iter_rows(named=True))
    wanted = []
    for row in asked:
        key = (row["item_id"], row["part"], row["start"], row["score_from"], row["stop"])
        ids = tokenised.ids[row["item_id"], row["part"]]
        front = np.asarray(tokenised.front_for(row["item_id"], row["part"]), dtype=np.int64)
        n_tokens = row["stop"] - row["score_from"]
        if row["detail"] == "verify" and key in hits:
            # Free running can confirm or refute nothing after the first miss.
            n_tokens = min(n_tokens, lcp_tokens(hits[key]) + 1)
        prompt = np.concatenate([front, ids[row["start"] : row["score_from"]]])
        if not len(prompt):
            n_tokens = 0  # nothing to start from: no prefix and no BOS
        true = ids[row["score_from"] : row["stop"]]
        wanted.append(Continuation(prompt, true, n_tokens, n_whole=len(prompt) + len(true)))
    results = greedy(loaded, wanted)
    return [
        {**row, **_compared(tokenised, each, generated, full=row["detail"] == "generate", text=include_text)}
        for row, each, generated in zip(asked, wanted, results, strict=True)
    ]


def _compared(
    tokenised: TokenisedItems, wanted: Continuation, generated: NDArray[np.int64], *, full: bool, text: bool
) -> Row:
    agree = matched(generated, wanted.true)
    row: Row = {"gen_tokens": len(generated), "gen_lcp_tokens": lcp_tokens(agree)}
    decode = tokenised.decode
    if full and len(generated):
        row["gen_match_frac"] = float(agree.mean())
        if decode is not None:
            scores = rouge(decode(generated.tolist()), decode(wanted.true.tolist()))
            row |= {"rouge1_f": scores.rouge1_f, "rouge2_f": scores.rouge2_f, "rougeL_f": scores.rougeL_f}
    if text:
        row["gen_text"] = decode(generated.tolist()) if decode is not None else None
    return row
