"""Speed of scoring, each bar as a ratio measured in one run; `make bench` runs this, `make test` does not.

Shape: 64 items of 50 + 50 tokens on a model of Pythia-70M's shape, 2 threads.
"""

import pytest
import torch

from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.generate import Continuation, greedy
from memprobe.scoring.unit import score_unit
from memprobe.tables.requests import Scheme, Spread

pytestmark = pytest.mark.benchmark

N_ITEMS, PREFIX, SUFFIX = 64, 50, 50
TOP40_AND_FULL = (Scheme(top_k=40), Scheme())
# The pass may take 1 / 0.6 of the time that its FLOPs take as plain matrix products.
MOST_OF_ROOFLINE = 1 / 0.6


def roofline(rows_body: int, rows_head: int, hidden: int, layers: int, vocabulary: int):
    """The same FLOPs as float32 matrix products: body on all tokens, head on the scored ones."""
    x, wide = torch.randn(rows_body, hidden), torch.randn(rows_body, 4 * hidden)
    qkv, out = torch.randn(hidden, 3 * hidden), torch.randn(hidden, hidden)
    up, down = torch.randn(hidden, 4 * hidden), torch.randn(4 * hidden, hidden)
    head, scored = torch.randn(hidden, vocabulary), torch.randn(512, hidden)
    buffers = [torch.empty(rows_body, n) for n in (3 * hidden, hidden, 4 * hidden)]
    logits = torch.empty(512, vocabulary)

    def work() -> None:
        for _ in range(layers):
            torch.mm(x, qkv, out=buffers[0])
            torch.mm(x, out, out=buffers[1])
            torch.mm(x, up, out=buffers[2])
            torch.mm(wide, down, out=buffers[1])
        for first in range(0, rows_head, 512):
            n = min(512, rows_head - first)
            torch.mm(scored[:n], head, out=logits[:n])

    return work


@pytest.fixture(scope="module")
def ready(bench):
    model = bench.loaded(bench.pythia_70m())
    assert model.fast
    items = bench.random_items(N_ITEMS, PREFIX + SUFFIX, 50304)
    return model, items, bench.suffix_requests(items, PREFIX)


def scorer(model, items, requests, schemes):
    def work():
        with scoring_mode():
            return score_unit(model, items, requests, further=schemes, batch_tokens=4096)

    return work


def test_the_pass_is_near_the_roofline(bench, ready, capsys) -> None:
    model, items, requests = ready
    products = roofline(N_ITEMS * (PREFIX + SUFFIX), N_ITEMS * SUFFIX, 512, 6, 50304)
    ratio = bench.time_pairs(scorer(model, items, requests, TOP40_AND_FULL), products)
    with capsys.disabled():
        print("\n" + ratio.line("pass over roofline (bar 1.667, aim 1.429)"))
    assert ratio.median <= MOST_OF_ROOFLINE


def test_a_nucleus_scheme_adds_under_40_percent(bench, ready, capsys) -> None:
    model, items, requests = ready
    with_nucleus = scorer(model, items, requests, (*TOP40_AND_FULL, Scheme(top_p=0.9)))
    ratio = bench.time_pairs(with_nucleus, scorer(model, items, requests, TOP40_AND_FULL))
    with capsys.disabled():
        print("\n" + ratio.line("with a nucleus over without (bar 1.4)"))
    assert ratio.median < 1.4


def test_bfloat16_is_faster_than_float32(bench, ready, capsys) -> None:
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no bfloat16 instructions")
    model, items, requests = ready
    half = bench.loaded(bench.pythia_70m(torch.bfloat16))
    ratio = bench.time_pairs(
        scorer(model, items, requests, TOP40_AND_FULL), scorer(half, items, requests, TOP40_AND_FULL)
    )
    with capsys.disabled():
        print("\n" + ratio.line("float32 over bfloat16 (bar 1.5)"))
    assert ratio.median >= 1.5


def test_exact_recall_is_decided_faster_than_by_generating(bench, ready, capsys) -> None:
    model, items, requests = ready
    wanted = [Continuation(ids[:PREFIX], ids[PREFIX:], SUFFIX) for ids in items.ids.values()]

    def generate():
        with scoring_mode():
            return greedy(model, wanted)

    ratio = bench.time_pairs(generate, scorer(model, items, requests, ()), pairs=3)
    with capsys.disabled():
        print("\n" + ratio.line("generating 50 tokens, batches of 16, over scoring (bar 2)"))
    assert ratio.median >= 2


def test_the_spread_of_ln_p_adds_under_3_percent(bench, ready, capsys) -> None:
    model, items, requests = ready
    with_spread = scorer(model, items, requests, (*TOP40_AND_FULL, Spread()))
    ratio = bench.time_pairs(with_spread, scorer(model, items, requests, TOP40_AND_FULL), pairs=15)
    with capsys.disabled():
        print("\n" + ratio.line("with the spread of ln p over without (bar 1.03)"))
    assert ratio.median < 1.03
