"""Memory of one pass, cost of further probes, and overlap of reading with scoring; `make bench` runs this."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import memprobe
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.unit import score_unit
from memprobe.tables.requests import Scheme, merge_requests

pytestmark = pytest.mark.benchmark

MEMORY_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from conftest import Bench
from test_memory_and_sweep import score_long_items
score_long_items(Bench())
"""


def score_long_items(bench) -> None:
    """Score 32 items of 1,024 tokens with a vocabulary of 128,256 and print the peak memory in bytes."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.set_num_threads(2)
    config = GPTNeoXConfig(
        vocab_size=128_256,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=1024,
    )
    model = bench.loaded(GPTNeoXForCausalLM(config).eval())
    items = bench.random_items(32, 1024, 128_256)
    with scoring_mode():
        score_unit(model, items, bench.suffix_requests(items, 1), further=(Scheme(top_k=40), Scheme()))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def test_long_items_with_a_large_vocabulary_stay_under_3_gib(capsys) -> None:
    child = subprocess.run(
        [sys.executable, "-c", MEMORY_CHILD, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak = int(child.stdout.split()[-1])
    with capsys.disabled():
        print(f"\npeak memory: {peak / 2**30:.2f} GiB (bar 3; the full logits alone would be 15.7)")
    assert peak < 3 * 2**30


def test_further_probes_cost_under_5_percent(bench, capsys) -> None:
    """Recognition asks for sums over the whole text; recall and extraction for tokens of the suffix."""
    model = bench.loaded(bench.pythia_70m())
    items = bench.random_items(64, 100, 50304)
    one = merge_requests([bench.suffix_requests(items, 0, "sums")])
    suffixes = bench.suffix_requests(items, 50)
    # Recall's default: four items are generated for real as well.
    verified = bench.suffix_requests(items, 50, "verify").head(4)
    three = merge_requests([one, suffixes, verified])
    schemes = (Scheme(top_k=40), Scheme())

    def pass_over(requests, with_schemes):
        def work():
            with scoring_mode():
                return score_unit(model, items, requests, further=with_schemes, batch_tokens=4096)

        return work

    ratio = bench.time_pairs(pass_over(three, schemes), pass_over(one, ()))
    # Where the spans coincide, the second probe asks for nothing.
    assert merge_requests([suffixes, suffixes]).equals(merge_requests([suffixes]))
    with capsys.disabled():
        print("\n" + ratio.line("recognition, recall and extraction over recognition alone (bar 1.05)"))
    assert ratio.median < 1.05


def test_reading_overlaps_scoring(bench, tmp_path, capsys) -> None:
    """Twelve checkpoints of Pythia-70M's shape, each scored for about 3 s, on a warm file cache."""
    n_checkpoints, n_items = 12, 72
    model = bench.pythia_70m()
    for step in range(n_checkpoints):
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(1.01)
        model.save_pretrained(tmp_path / "sweep" / f"step{step}")
    ids = bench.random_items(n_items, 100, 50304).ids
    lines = [json.dumps({"item_id": name, "input_ids": row.tolist()}) for (name, _), row in ids.items()]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))

    def timings(model: Path, out: str) -> dict[str, float]:
        run = memprobe.run(
            probes=["extraction"],
            model=model,
            data=tmp_path / "items.jsonl",
            out=tmp_path / out,
            threads=2,
            settings=["extraction.prefix_tokens=50", "extraction.suffix_tokens=50"],
        )
        assert run.summary["step"].n_unique() == (n_checkpoints if out == "all" else 1)
        return run.manifest["timings"]

    alone = timings(tmp_path / "sweep" / "step0", "alone")["score_s"]
    sweep = timings(tmp_path / "sweep", "all")
    scored, waited = sweep["score_s"], sweep["load_s"] - sweep["first_load_s"]
    with capsys.disabled():
        print(
            f"\nsweep of {n_checkpoints} over its scoring times (bar 1.15): "
            f"ratio {(scored + waited) / scored:.3f}; scoring {scored:.1f} s, then waiting {waited:.2f} s "
            f"for weights after a first load of {sweep['first_load_s']:.1f} s\n"
            f"sweep over {n_checkpoints} times one checkpoint alone ({alone:.2f} s): "
            f"ratio {(scored + waited) / (n_checkpoints * alone):.3f}; whole run {sweep['total_s']:.1f} s"
        )
    assert scored / n_checkpoints >= 3
    assert scored + waited <= 1.15 * scored
    assert scored + waited <= 1.15 * n_checkpoints * alone
