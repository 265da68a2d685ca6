"""Windows over documents for extraction: settings, coverage of the text, values in series.

A window is a prefix and a suffix somewhere in a document. The extractable part of the document is
the union of the suffixes of windows whose p_z is high enough.

Source: Cooper et al. (2025), section 4, https://arxiv.org/abs/2505.12546
"""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import Scores
from memprobe.probes.placement import tokens_shown
from memprobe.stats.coverage import coverage, covered_chars
from memprobe.tables.conditions import build
from memprobe.tables.requests import Plan, Scheme, request_frame
from memprobe.tables.views import CharWindows, TokenWindows

CARRIED = ("window", "window_start_char", "suffix_start_char", "suffix_end_char", "document_chars")


def window_view(
    prefix_tokens: int | None, suffix_tokens: int | None, stride_tokens: int | None, stride_chars: int | None
) -> TokenWindows | CharWindows | None:
    """Return the view for the given stride; None if there is no stride."""
    if prefix_tokens is None or suffix_tokens is None:
        return None
    if stride_tokens is not None:
        return TokenWindows(prefix_tokens, suffix_tokens, stride_tokens)
    if stride_chars is not None:
        return CharWindows(prefix_tokens, suffix_tokens, stride_chars)
    return None


def window_problems(
    prefix_tokens: int | None,
    suffix_tokens: int | None,
    align: str,
    stride_tokens: int | None,
    stride_chars: int | None,
) -> list[str]:
    """Return the problems of the settings that cut windows."""
    problems = [
        f"{name} is {value}, not 1 or more"
        for name, value in (("stride_tokens", stride_tokens), ("stride_chars", stride_chars))
        if value is not None and value < 1
    ]
    if stride_tokens is not None and stride_chars is not None:
        problems.append("stride_tokens and stride_chars are both given")
    if stride_tokens is not None or stride_chars is not None:
        if prefix_tokens is None or suffix_tokens is None:
            problems.append("a stride needs prefix_tokens and suffix_tokens")
        if align == "end":
            problems.append('align = "end" has no meaning beside a stride')
    return problems


def plan_windows(
    windows: pl.DataFrame, schemes: tuple[Scheme, ...], view: TokenWindows | CharWindows
) -> Plan:
    """Request the tokens of each window's suffix.

    Args:
        windows: Rows of `WINDOWS` with `n_tokens` of the document; places are null where no window fits.
        schemes: Sampling schemes.
        view: View that cut the windows.
    """
    whole = windows.filter(pl.col("stop").is_not_null())
    without = windows.group_by("item_id", maintain_order=True).agg(
        pl.col("n_tokens").first(), made=pl.col("stop").is_not_null().any()
    )
    has = tokens_shown(pl.col("n_tokens"))
    unfit = without.filter(~pl.col("made")).select(
        "item_id", reason=pl.format("has {}, a window needs {}", has, pl.lit(view.n_tokens))
    )
    return Plan(request_frame(whole, detail="tokens"), statistics=frozenset(schemes), unfit=unfit)


def coverage_table(table: pl.DataFrame, scores: Scores, taus: tuple[float, ...]) -> pl.DataFrame:
    """Return the columns of `COVERAGE` for each document, scheme and threshold.

    Documents given as token ids have no rows, because their characters are not known.
    """
    rows = []
    short = dict(_short_windows(scores).iter_rows())
    for (item, scheme), windows in _documents(table):
        starts, ends, logp = _arrays(windows)
        n_chars = int(windows["document_chars"][0])
        for tau in taus:
            covered = coverage(starts, ends, logp, n_chars=n_chars, tau=tau)
            rows.append(
                {
                    "item_id": item,
                    "scheme": scheme,
                    "tau": tau,
                    "coverage_frac": covered.coverage_frac,
                    "covered_chars": covered.covered_chars,
                    "longest_run_chars": covered.longest_run_chars,
                    "document_chars": n_chars,
                    "head_chars": int(starts.min()),
                    "tail_chars": n_chars - int(ends.max()),
                    "n_windows": windows.height,
                    "n_short_windows": short.get(item, 0),
                }
            )
    return pl.DataFrame(rows, schema=None if rows else {"item_id": pl.String})


def _short_windows(scores: Scores) -> pl.DataFrame:
    if scores.windows is None:
        raise ValueError("coverage needs the windows that were cut")
    short = scores.windows.filter(pl.col("stop").is_null())
    return short.group_by("item_id").len()


def _documents(table: pl.DataFrame) -> list[tuple[tuple[str, str], pl.DataFrame]]:
    """Return the windows, in order, of each document under each scheme."""
    located = table.filter(pl.col("document_chars").is_not_null()).sort("item_id", "scheme", "window")
    parts = located.partition_by("item_id", "scheme", maintain_order=True, as_dict=True)
    return [((str(item), str(scheme)), part) for (item, scheme), part in parts.items()]


def _arrays(windows: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the first and one past the last character of each suffix, and ln p_z, -inf if not known."""
    logp = windows["logp_nats"].fill_null(-np.inf).to_numpy().astype(np.float64)
    return windows["suffix_start_char"].to_numpy(), windows["suffix_end_char"].to_numpy(), logp


def coverage_values(
    table: pl.DataFrame, taus: tuple[float, ...], *, passage_windows: int | None = None
) -> pl.DataFrame:
    """Return the covered share of each stretch of a document; a stretch is about as long as a suffix.

    The mean of these shares, weighted by the lengths of the stretches, is the coverage of the document.

    Args:
        table: Rows of `EXTRACTION` with the places of their windows.
        taus: Thresholds; a window covers its suffix if its p_z is at least the threshold.
        passage_windows: Number of windows in the longest passage that can be memorized; None if not known.
    """
    frames = [no_values()]
    for (item, scheme), windows in _documents(table):
        starts, ends, logp = _arrays(windows)
        n_chars = int(windows["document_chars"][0])
        length = max(1, int(np.median(ends - starts)))
        # Neighbouring windows also share prefixes, so stretches depend on each other over a window's length.
        reach = int(np.median(ends - windows["window_start_char"].to_numpy()))
        edges = np.arange(0, n_chars, length)
        longest = None
        if passage_windows is not None:
            apart = float(np.median(np.diff(starts))) if len(starts) > 1 else float(length)
            longest = math.ceil(passage_windows * apart / length)
        sizes = np.diff(np.append(edges, n_chars))
        for tau in taus:
            flags = covered_chars(starts, ends, logp, n_chars=n_chars, tau=tau)
            frames.append(
                pl.DataFrame(
                    {
                        "value": np.add.reduceat(flags, edges, dtype=np.float64) / sizes,
                        "position": np.arange(len(edges)),
                        "weight": sizes.astype(np.float64),
                    }
                ).select(
                    pl.lit(item).alias("item_id"),
                    pl.lit(build(scheme=scheme, tau=f"{tau:.15g}")).alias("condition"),
                    "value",
                    "position",
                    pl.lit(max(2, -(-reach // length)), pl.Int64).alias("overlap"),
                    "weight",
                    pl.lit(longest, pl.Int64).alias("passage"),
                )
            )
    return pl.concat(frames)


def no_values() -> pl.DataFrame:
    """Return an empty table of the values of windows."""
    names = {"item_id": pl.String, "condition": pl.String, "value": pl.Float64}
    return pl.DataFrame(
        schema=names | {"position": pl.Int64, "overlap": pl.Int64, "weight": pl.Float64, "passage": pl.Int64}
    )


def in_series(values: pl.DataFrame, overlap: int, passage: int | None = None) -> pl.DataFrame:
    """Return values of windows (`item_id, condition, value, window`) as series of overlapping values.

    Args:
        values: Values of the windows.
        overlap: Number of neighbours that share text with a window.
        passage: Number of windows in the longest passage that can be memorized; None if not known.
    """
    return values.select(
        "item_id",
        "condition",
        "value",
        position=pl.col("window").cast(pl.Int64),
        overlap=pl.lit(overlap, pl.Int64),
        weight=pl.lit(1.0),
        passage=pl.lit(passage, pl.Int64),
    )
