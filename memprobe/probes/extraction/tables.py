"""Tables of `extraction`: items, windows over documents, and the share of a document that windows cover."""

from dataclasses import replace

import polars as pl

from memprobe.tables.keys import NO_CONDITION, item_table
from memprobe.tables.schema import Column

# One column for each p in the settings; inf where p_z is 0, elsewhere at most 1.8e308.
_N_AT_P = Column(
    pl.Float64(),
    "samples",
    "samples after which the suffix was seen with probability {}; inf: never",
    NO_CONDITION,
)

EXTRACTION = item_table(
    "extraction",
    {
        "scheme": Column(pl.String(), "-", "sampling scheme"),
        "prefix_tokens": Column(pl.Int32(), "tokens", "tokens that condition"),
        "suffix_tokens": Column(pl.Int32(), "tokens", "tokens to be extracted"),
        "logp_nats": Column(
            pl.Float64(), "nats", "ln p_z of the suffix under the scheme; -inf: impossible", NO_CONDITION
        ),
        "pz": Column(
            pl.Float64(),
            "probability",
            "p_z; 0: impossible; at least 4.9e-324, so use logp_nats",
            NO_CONDITION,
        ),
        "max_rank": Column(pl.Int32(), "tokens", "worst rank of a suffix token, 0 is the top", NO_CONDITION),
        "in_support": Column(pl.Boolean(), "-", "the scheme keeps every suffix token", NO_CONDITION),
        "greedy": Column(pl.Boolean(), "-", "greedy decoding yields the whole suffix", NO_CONDITION),
    },
    key=("scheme", "prefix_tokens", "suffix_tokens"),
    optional={"n_at_p*": _N_AT_P},
)

_AS_IDS = "the document was given as token ids, which have no characters"

EXTRACTION_WINDOWS = replace(
    EXTRACTION,
    key=(*EXTRACTION.key, "window"),
    columns={
        **EXTRACTION.columns,
        "doc_id": Column(pl.String(), "-", "the document's cluster", "a document of its own"),
        "window": Column(pl.Int32(), "-", "number of the window in its document, from 0"),
        "window_start_char": Column(pl.Int64(), "chars", "first character of the window", _AS_IDS),
        "suffix_start_char": Column(pl.Int64(), "chars", "first character of the suffix", _AS_IDS),
        "suffix_end_char": Column(pl.Int64(), "chars", "one past the suffix's last character", _AS_IDS),
        "document_chars": Column(pl.Int64(), "chars", "characters of the document", _AS_IDS),
    },
)

# A character is covered at tau if it is in the suffix of some window with p_z >= tau.
COVERAGE = item_table(
    "coverage",
    {
        "scheme": Column(pl.String(), "-", "sampling scheme"),
        "tau": Column(pl.Float64(), "probability", "smallest p_z of a window that covers"),
        "coverage_frac": Column(pl.Float64(), "fraction", "covered characters of all of the document"),
        "covered_chars": Column(pl.Int64(), "chars", "covered characters"),
        "longest_run_chars": Column(pl.Int64(), "chars", "longest stretch of covered characters"),
        "document_chars": Column(pl.Int64(), "chars", "characters of the document"),
        "head_chars": Column(pl.Int64(), "chars", "before the first suffix: no window can cover them"),
        "tail_chars": Column(pl.Int64(), "chars", "behind the last suffix: no window can cover them"),
        "n_windows": Column(pl.Int64(), "windows", "windows of the document"),
        "n_short_windows": Column(pl.Int64(), "windows", "slices before the end with too few tokens"),
    },
    key=("scheme", "tau"),
)
