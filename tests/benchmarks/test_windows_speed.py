"""Speed of windows over a book; `make bench` runs this, `make test` does not.

The book: 80,000 words drawn from a vocabulary of 8,000 invented ones with Zipf's frequencies, under a
byte-level BPE tokenizer trained on it.
"""

import time

import numpy as np
import polars as pl
import pytest

from memprobe.items import read_items
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.load import Limits
from memprobe.scoring.tokenise import tokenise
from memprobe.scoring.unit import score_unit
from memprobe.scoring.windows import with_views
from memprobe.tables.requests import Scheme, request_frame
from memprobe.tables.views import CharWindows

pytestmark = pytest.mark.benchmark

N_WORDS, STRIDE_CHARS, N_SCORED = 80_000, 10, 64
VOCABULARY = 16_000


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Return a file with the book."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(rng.choice(letters[: rng.integers(8, 27)], rng.integers(2, 11))) for _ in range(8000)]
    frequency = 1 / np.arange(1, 8001)
    text = " ".join(rng.choice(words, N_WORDS, p=frequency / frequency.sum()))
    file = tmp_path_factory.mktemp("book") / "book.txt"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def tokenised(book):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train(
        [str(book)],
        trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    limits = Limits(2048, 50304, None, "float32")
    return tokenizer, tokenise(read_items([str(book)]).table, tokenizer, bos="none", limits=limits)


def test_windows_over_a_book_are_made_within_20_s(tokenised, capsys) -> None:
    tokenizer, items = tokenised
    started = time.perf_counter()
    _, windows = with_views(items, tokenizer, [CharWindows(50, 50, STRIDE_CHARS)], 50304)
    spent_s = time.perf_counter() - started
    with capsys.disabled():
        print(f"\n{windows.height:,} windows of 50 + 50 tokens in {spent_s:.1f} s (bar 20 s)")
    assert windows.height > 30_000
    assert spent_s < 20


def test_windows_are_scored_at_the_speed_of_the_plain_pass(bench, tokenised, capsys) -> None:
    tokenizer, items = tokenised
    model = bench.loaded(bench.pythia_70m())
    view = CharWindows(50, 50, STRIDE_CHARS)
    with_windows, windows = with_views(items, tokenizer, [view], 50304)
    of_windows = request_frame(windows.head(N_SCORED), detail="tokens")
    plain = bench.random_items(N_SCORED, 100, VOCABULARY)
    of_items = bench.suffix_requests(plain, 50)
    assert of_windows.height == of_items.height
    schemes = (Scheme(top_k=40),)

    def scorer(held, requests: pl.DataFrame):
        def work():
            with scoring_mode():
                return score_unit(model, held, requests, further=schemes, batch_tokens=4096)

        return work

    ratio = bench.time_pairs(scorer(with_windows, of_windows), scorer(plain, of_items))
    with capsys.disabled():
        print("\n" + ratio.line("windows over plain items of the same lengths (bar 1.1)"))
    assert ratio.median < 1.1
