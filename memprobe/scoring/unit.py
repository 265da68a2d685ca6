"""One unit of work: requests in, rows of `SPANS` out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.errors import CheckpointError
from memprobe.scoring.batch import Forward, forwards, pack
from memprobe.scoring.choices import choice_rows
from memprobe.scoring.forward import TokenSequence, score_batch
from memprobe.scoring.generate import Continuation, greedy, lcp_tokens, matched
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.rouge import rouge
from memprobe.scoring.statistics import TokenStatistics
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.tables.requests import Scheme
from memprobe.tables.spans import SPANS

Row = dict[str, Any]


def score_unit(
    loaded: LoadedModel,
    tokenised: TokenisedItems,
    requests: pl.DataFrame,
    *,
    schemes: Sequence[Scheme] = (),
    batch_tokens: int = 4096,
    include_text: bool = False,
    on_batch: Callable[[int], None] = lambda _: None,
) -> pl.DataFrame:
    """Score the requests of one unit.

    Args:
        loaded: The model.
        tokenised: The items with their ids.
        requests: Rows of `REQUESTS`.
        schemes: Sampling schemes to evaluate.
        batch_tokens: Tokens of one batch, padding counted.
        include_text: Add the column `gen_text`.
        on_batch: Called with the number of sequences after each batch.

    Raises:
        CheckpointError: The model gives NaN.
    """
    rows: list[Row] = []
    for batch in pack(_read_as_alone(forwards(requests), loaded, tokenised), batch_tokens):
        scored = score_batch(loaded, [_sequence(each, tokenised) for each in batch], schemes)
        for each, statistics in zip(batch, scored, strict=True):
            rows.extend(_span_rows(each, statistics))
        on_batch(len(batch))
    chosen = requests.filter(pl.col("detail") == "choice")
    rows.extend(choice_rows(loaded, tokenised, chosen, batch_tokens=batch_tokens, on_batch=on_batch))
    generated = requests.filter(pl.col("detail").is_in(["generate", "verify"]))
    rows.extend(_generated_rows(loaded, tokenised, generated, _known_lcp(rows), include_text))
    return _frame(rows, tokenised, schemes, include_text)


def _read_as_alone(whole: list[Forward], loaded: LoadedModel, tokenised: TokenisedItems) -> list[Forward]:
    """Cut forwards so that each span is read as when it alone is asked for, still longest last.

    Spans of one beginning share a forward, unless the model computes their lengths differently.
    """
    if loaded.borders.first is None:
        return whole
    cut: list[Forward] = []
    for each in whole:
        n_front = len(tokenised.front_for(each.item_id, each.part))
        lengths = [n_front + stop - each.start for _, stop, _ in each.spans]
        for places in loaded.borders.apart(lengths):
            spans = tuple(each.spans[place] for place in places)
            cut.append(replace(each, spans=spans, stop=max(stop for _, stop, _ in spans)))
    return sorted(cut, key=lambda each: each.n_tokens)


def _sequence(forward: Forward, tokenised: TokenisedItems) -> TokenSequence:
    front = np.asarray(tokenised.front_for(forward.item_id, forward.part), dtype=np.int64)
    body = tokenised.ids[forward.item_id, forward.part][forward.start : forward.stop]
    first = min(score_from for score_from, _, _ in forward.spans)
    return TokenSequence(np.concatenate([front, body]), max(1, len(front) + first - forward.start))


def _span_rows(forward: Forward, statistics: TokenStatistics) -> list[Row]:
    """Return one row per span of a forward, its lists cut out of the forward's statistics."""
    arrays = {
        "logprob_nats": statistics.logprob.numpy(),
        "rank": statistics.rank.numpy(),
        "n_ties": statistics.n_ties.numpy(),
        "hit": statistics.hit.numpy(),
        "entropy_nats": statistics.entropy.numpy(),
        "margin_nats": statistics.margin.numpy(),
        **{scheme.column: values.numpy() for scheme, values in statistics.schemes.items()},
    }
    if np.isnan(arrays["logprob_nats"]).any() or np.isnan(arrays["entropy_nats"]).any():
        raise CheckpointError(
            "the model scores NaN",
            where=f"item {forward.item_id}",
            fix="the weights hold NaN or overflow in this dtype; try --dtype float32",
        )
    n_scored = len(arrays["logprob_nats"])
    rows = []
    for score_from, stop, detail in forward.spans:
        # The arrays end at the forward's last token; the first token of all may have no score.
        end = n_scored - (forward.stop - stop)
        begin = max(0, end - (stop - score_from))
        cut = {name: values[begin:end] for name, values in arrays.items()}
        rows.append(
            {
                "item_id": forward.item_id,
                "part": forward.part,
                "start": forward.start,
                "score_from": score_from,
                "stop": stop,
                "detail": detail,
                "n_scored": end - begin,
                "logprob_sum_nats": float(cut["logprob_nats"].sum(dtype=np.float64)),
                "n_hits": int(cut["hit"].sum()),
                "rank_sum": int(cut["rank"].sum(dtype=np.int64)),
                **(cut if detail == "tokens" else {}),
            }
        )
    return rows


def _known_lcp(rows: list[Row]) -> dict[tuple[Any, ...], NDArray[np.bool_]]:
    """Return the teacher-forced hits of each `tokens` span, by item, part, start, score_from and stop."""
    return {
        (row["item_id"], row["part"], row["start"], row["score_from"], row["stop"]): row["hit"]
        for row in rows
        if row["detail"] == "tokens"
    }


def _generated_rows(
    loaded: LoadedModel,
    tokenised: TokenisedItems,
    requests: pl.DataFrame,
    hits: dict[tuple[Any, ...], NDArray[np.bool_]],
    include_text: bool,
) -> list[Row]:
    asked = list(requests.iter_rows(named=True))
    wanted = []
    for row in asked:
        key = (row["item_id"], row["part"], row["start"], row["score_from"], row["stop"])
        ids = tokenised.ids[row["item_id"], row["part"]]
        front = np.asarray(tokenised.front_for(row["item_id"], row["part"]), dtype=np.int64)
        n_tokens = row["stop"] - row["score_from"]
        if row["detail"] == "verify" and key in hits:
            # One token behind the first miss is all that free running can confirm or refute.
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


def _frame(
    rows: list[Row], tokenised: TokenisedItems, schemes: Sequence[Scheme], include_text: bool
) -> pl.DataFrame:
    """Return the rows as a frame; the lists are grouped out of one long column each, which is fast."""
    types = {name: column.dtype for name, column in SPANS.columns.items() if name != "content_hash"}
    types |= {scheme.column: pl.List(pl.Float32()) for scheme in schemes}
    types |= {"gen_text": pl.String()} if include_text else {}
    lists = [
        name for name, dtype in types.items() if isinstance(dtype, pl.List) and name != "choice_logprob_nats"
    ]
    flat = pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in types if name not in lists},
        schema={name: dtype for name, dtype in types.items() if name not in lists},
    ).with_row_index("row")
    frame = flat.join(_token_lists(rows, types, lists), on="row", how="left", maintain_order="left")
    # A span without a scored token has empty lists, which is not the same as none.
    empty = [
        pl.when(pl.col("detail") == "tokens")
        .then(pl.col(name).fill_null(pl.lit([], dtype=types[name])))
        .alias(name)
        for name in lists
    ]
    hashes = tokenised.table.select("item_id", "content_hash")
    return frame.with_columns(empty).drop("row").join(hashes, on="item_id", maintain_order="left")


def _token_lists(rows: list[Row], types: dict[str, pl.DataType], lists: list[str]) -> pl.DataFrame:
    """Return `row` and the list columns of the rows that have tokens."""
    numbers = [number for number, row in enumerate(rows) if row["detail"] == "tokens"]
    lengths = [len(rows[number]["logprob_nats"]) for number in numbers]
    columns: dict[str, Any] = {
        name: np.concatenate([rows[number][name] for number in numbers]) if numbers else [] for name in lists
    }
    inner = {name: dtype.inner for name in lists if isinstance(dtype := types[name], pl.List)}
    long = pl.DataFrame(
        {"row": np.repeat(np.asarray(numbers, dtype=np.uint32), lengths), **columns},
        schema={"row": pl.get_index_type(), **inner},
    )
    return long.group_by("row", maintain_order=True).agg(pl.all())
