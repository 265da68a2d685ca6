"""Documents and token streams, cut into items that `memprobe run` takes.

`cut` cuts texts into prefix and suffix or into windows, by offsets into the source; `streams` opens
token streams (.npy, Megatron .bin/.idx, packed data sets), `exposure` says when each
sequence was trained on; `sort` makes SORT trials from texts, `write` writes the items. No torch: the offsets
of tokens are passed in as a callable.
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
