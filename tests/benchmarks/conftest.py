"""What the benchmarks share: a model of Pythia-70M's shape with random weights, its items, fair timing."""

import statistics
import time
from collections.abc import Callable, Mapping
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


COVERAGE_HEAD = (
    "| method | cell | nominal | coverage | lower tail | upper tail | median width | replications |"
)


@dataclass(frozen=True)
class Coverage:
    """How often an interval held the truth of one population.

    Attributes:
        name: Of the population.
        method: Of the interval, as `ci_method` has it.
        below: Share of intervals that lie above the truth.
        above: Share that lie below it.
        width: Median of the widths.
        n: Intervals.
        n_none: Draws without one.
    """

    name: str
    method: str
    below: float
    above: float
    width: float
    n: int
    n_none: int

    def line(self) -> str:
        tails = f"{1 - self.below - self.above:.3f} | {self.below:.3f} | {self.above:.3f} | {self.width:.3g}"
        none = f", {self.n_none} without" if self.n_none else ""
        return f"| {self.method} | {self.name} | 0.95 | {tails} | {self.n}{none} |"


def coverage_of(
    name: str,
    truths: Mapping[str, float],
    draw: Callable[[np.random.Generator], Mapping[str, tuple[float, float, str] | None]],
    n: int,
) -> list[Coverage]:
    """Simulate one population: what is estimated, its truth, and the ends and method of each interval."""
    rng = np.random.default_rng(sum(name.encode()))
    draws = [draw(rng) for _ in range(n)]
    cells = []
    for what, truth in truths.items():
        found = [each for one in draws if (each := one[what]) is not None]
        if not found:
            continue
        lo, hi = np.array([each[:2] for each in found]).T
        room = 1e-9 * max(1.0, abs(truth))
        cells.append(
            Coverage(
                f"{what}, {name}",
                statistics.mode(each[2] for each in found),
                float((lo > truth + room).mean()),
                float((hi < truth - room).mean()),
                float(np.median(hi - lo)),
                len(found),
                n - len(found),
            )
        )
    return cells


def sizes_of_documents(n: int, size: int | str, rng: np.random.Generator) -> np.ndarray:
    """Items of each document: as many in each, or log-uniform from 2 to 50."""
    if size != "2-50":
        return np.full(n, int(size))
    return np.floor(np.exp(rng.uniform(np.log(2), np.log(51), n))).astype(int)


class Simulation:
    """The helpers of coverage, for test modules, which cannot import each other."""

    head = COVERAGE_HEAD
    of = staticmethod(coverage_of)
    sizes = staticmethod(sizes_of_documents)


@pytest.fixture(scope="session")
def coverage() -> Simulation:
    return Simulation()


@pytest.fixture(scope="session")
def bench() -> Bench:
    torch.set_num_threads(THREADS)
    return Bench()
