"""Documents and token streams: what people hold, cut into items that `memprobe run` takes.

`cut` makes prefixes and suffixes or windows of texts, by offsets into the source; `streams` opens
tokens as they were trained on (.npy, Megatron .bin/.idx, packed data sets), `exposure` says when each
sequence was trained on; `sort` makes SORT trials of texts, `write` writes the items. No torch: offsets of
tokens come in as a callable.
"""

from memprobe.documents.cut import Cut, CutDocuments, Offsets, cut_documents
from memprobe.documents.exposure import Order, Sampling, Training, sequence_items
from memprobe.documents.rows import Pieces
from memprobe.documents.sort import Cells, SortTrials, sort_trials
from memprobe.documents.source import read_documents
from memprobe.documents.streams import is_stream, load_numbers, open_streams
from memprobe.documents.write import check_out, write_items

__all__ = [
    "Cells",
    "Cut",
    "CutDocuments",
    "Offsets",
    "Order",
    "Pieces",
    "Sampling",
    "SortTrials",
    "Training",
    "check_out",
    "cut_documents",
    "is_stream",
    "load_numbers",
    "open_streams",
    "read_documents",
    "sequence_items",
    "sort_trials",
    "write_items",
]
