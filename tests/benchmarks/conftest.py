"""What the benchmarks share: a model of Pythia-70M's shape with random weights, its items, fair timing."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GenerationConfig, GPTNeoXConfig, GPTNeoXForCausalLM

from memprobe.scoring.conduct import choose_path
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.tables.requests import request_frame

THREADS = 2


def pythia_70m(dtype: torch.dtype = torch.float32) -> GPTNeoXForCausalLM:
    """A model of Pythia-70M's shape: 6 layers, hidden 512, vocabulary 50,304; the weights are random."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
        rotary_pct=0.25,
        max_position_embeddings=2048,
    )
    model = GPTNeoXForCausalLM(config).to(dtype).eval()
    model.generation_config = GenerationConfig()
    return model


def loaded(model: torch.nn.Module) -> LoadedModel:
    """The model as scoring holds it, on the path that scoring chooses."""
    ready = LoadedModel(model=model, device=torch.device("cpu"))
    choose_path(ready)
    return ready


def random_items(n_items: int, n_tokens: int, vocabulary: int) -> TokenisedItems:
    """Items of random ids."""
    rng = np.random.default_rng(0)
    names = [f"item-{number:04d}" for number in range(n_items)]
    table = pl.DataFrame(
        {
            "item_id": names,
            "content_hash": names,
            "n_tokens": pl.Series([n_tokens] * n_items, dtype=pl.Int32),
            "n_prefix_tokens": pl.Series([None] * n_items, dtype=pl.Int32),
            "n_foil_tokens": pl.Series([None] * n_items, dtype=pl.Int32),
        }
    )
    ids = {(name, "text"): rng.integers(0, vocabulary, n_tokens) for name in names}
    return TokenisedItems(table=table, ids=ids, front=(), front_of_ids=(), given_as_ids=frozenset(names))


def suffix_requests(items: TokenisedItems, score_from: int, detail: str = "tokens") -> pl.DataFrame:
    """One request per item: read all of it, score from a token on."""
    return request_frame(
        items.table.select("item_id", start=0, score_from=score_from, stop="n_tokens"), detail=detail
    )


@dataclass(frozen=True)
class Ratio:
    """Times of A over times of B, pair by pair, run in turn."""

    ratios: list[float]
    a_s: list[float]
    b_s: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def line(self, name: str) -> str:
        a_s, b_s = statistics.median(self.a_s), statistics.median(self.b_s)
        spread = f"{min(self.ratios):.3f} to {max(self.ratios):.3f}"
        return f"{name}: ratio {self.median:.3f} (pairs {spread}); {a_s:.3f} s against {b_s:.3f} s"


def time_pairs(a: Callable[[], object], b: Callable[[], object], pairs: int = 5) -> Ratio:
    """Time A and B in turn after one warm-up of each, so that a drifting machine hits both."""
    a()
    b()
    a_s, b_s = [], []
    for _ in range(pairs):
        a_s.append(_seconds(a))
        b_s.append(_seconds(b))
    return Ratio([x / y for x, y in zip(a_s, b_s, strict=True)], a_s, b_s)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Bench:
    """The helpers above, for test modules, which cannot import each other."""

    pythia_70m = staticmethod(pythia_70m)
    loaded = staticmethod(loaded)
    random_items = staticmethod(random_items)
    suffix_requests = staticmethod(suffix_requests)
    time_pairs = staticmethod(time_pairs)


@pytest.fixture(scope="session")
def bench() -> Bench:
    torch.set_num_threads(THREADS)
    return Bench()
