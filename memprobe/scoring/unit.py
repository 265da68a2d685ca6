"""One unit of work: requests in, rows of `SPANS` out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from memprobe.errors import CheckpointError
from memprobe.scoring.batch import Forward, forwards, pack
from memprobe.scoring.choices import choice_rows
from memprobe.scoring.forward import TokenSequence, score_batch
from memprobe.scoring.frames import span_frame
from memprobe.scoring.generated import Row, generated_rows, known_hits
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.statistics import TokenStatistics
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.tables.requests import Statistic


def score_unit(
    loaded: LoadedModel,
    tokenised: TokenisedItems,
    requests: pl.DataFrame,
    *,
    further: Sequence[Statistic] = (),
    batch_tokens: int = 4096,
    include_text: bool = False,
    on_batch: Callable[[int], None] = lambda _: None,
) -> pl.DataFrame:
    """Score the requests of one unit.

    Args:
        loaded: The model.
        tokenised: The items with their ids.
        requests: Rows of `REQUESTS`.
        further: What to score besides the columns of `SPANS`.
        batch_tokens: Tokens of one batch, padding counted.
        include_text: Add the column `gen_text`.
        on_batch: Called with the number of sequences after each batch.

    Raises:
        CheckpointError: The model gives NaN.
    """
    rows: list[Row] = []
    for batch in pack(_read_as_alone(forwards(requests), loaded, tokenised), batch_tokens):
        scored = score_batch(loaded, [_sequence(each, tokenised) for each in batch], further)
        for each, statistics in zip(batch, scored, strict=True):
            rows.extend(_span_rows(each, statistics))
        on_batch(len(batch))
    chosen = requests.filter(pl.col("detail") == "choice")
    rows.extend(choice_rows(loaded, tokenised, chosen, batch_tokens=batch_tokens, on_batch=on_batch))
    generated = requests.filter(pl.col("detail").is_in(["generate", "verify"]))
    rows.extend(generated_rows(loaded, tokenised, generated, known_hits(rows), include_text))
    return span_frame(rows, tokenised, further, include_text)


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
        **{each.column: values.numpy() for each, values in statistics.further.items()},
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
