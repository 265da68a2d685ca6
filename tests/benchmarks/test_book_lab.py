"""The main job on real text: a lab sequence on a book with well-known quotes planted at known exposures.

Needs the books and quotes that MEMPROBE_TEST_DATA points to; skips, saying so, where they are not.
About three minutes on 2 cores.
"""

import json
import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import memprobe
from memprobe.lab import TrainSettings, train_text
from memprobe.stats.intervals import clopper_pearson, wilson

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("MEMPROBE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
LEVELS = {0: 30, 1: 16, 4: 16, 16: 16, 32: 12, 64: 10}
N_SAMPLES, N_SAMPLED_ITEMS = 2000, 20


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    quotes_file = DATA / "famous_quotes.json"
    if not quotes_file.is_file():
        pytest.skip("the books and quotes are not here: set MEMPROBE_TEST_DATA")
    folder = tmp_path_factory.mktemp("book")
    # The list holds one quote twice, with and without a hyphen: planted once, the other is no control.
    all_quotes = json.loads(quotes_file.read_text(encoding="utf-8"))
    quotes = list({tuple(re.findall(r"\w+", quote.lower())): quote for quote in all_quotes}.values())
    levels = [level for level, count in LEVELS.items() for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(quotes))
    rows = []
    for exposures, number in zip(levels, order, strict=False):
        words = quotes[number].split(" ")
        half = len(words) // 2
        rows.append(
            {"prefix": " ".join(words[:half]), "suffix": " " + " ".join(words[half:]), "exposures": exposures}
        )
    canaries = folder / "canaries.jsonl"
    canaries.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return train_text(
        [DATA / "books" / "72600.txt"],
        folder / "lab",
        canaries=canaries,
        settings=TrainSettings(checkpoints=4),
        threads=2,
    )


@pytest.fixture(scope="module")
def run(lab, tmp_path_factory):
    return memprobe.run(
        probes=["recall", "extraction"],
        settings=["recall.generate=true"],
        model=lab.main,
        data=lab.items,
        out=tmp_path_factory.mktemp("run") / "book",
        threads=2,
    )


def test_exact_recall_rises_with_exposures_and_is_none_without(run, capsys) -> None:
    recall = run.table("recall")
    last = recall.filter(pl.col("step") == pl.col("step").max())
    quotes = last.filter(pl.col("exposures").is_not_null())
    by_level = (
        quotes.group_by("exposures").agg(pl.col("exact").mean(), n=pl.len(), hits="exact").sort("exposures")
    )
    controls = last.filter(pl.col("group") == "control")
    with capsys.disabled():
        print("\nexact recall by exposures:", dict(by_level.select("exposures", "exact").iter_rows()))
        trained = (
            recall.filter(pl.col("group") == "text").group_by("step").agg(pl.col("exact").mean()).sort("step")
        )
        print("windows of the book trained on, by step:", dict(trained.iter_rows()))
        print(f"windows never trained on: {controls['exact'].sum()} of {controls.height}")
    rates = by_level["exact"].to_list()
    unexposed = quotes.filter(pl.col("exposures") == 0)
    assert wilson(float(unexposed["exact"].sum()), unexposed.height).lo == 0
    assert unexposed["exact"].sum() == 0
    assert controls["exact"].sum() == 0
    assert rates[-1] >= 0.9
    assert np.corrcoef(np.argsort(np.argsort(by_level["exposures"])), rates)[0, 1] > 0.7
    assert all(later >= earlier - 0.15 for earlier, later in pairwise(rates))


def test_every_exact_equals_what_generation_yields(run) -> None:
    recall = run.table("recall")
    assert recall["gen_match_frac"].null_count() == 0
    disagree = recall.filter(pl.col("exact") != (pl.col("gen_match_frac") == 1))
    assert disagree.height == 0
    assert run.manifest["checks"] == {"greedy_verified": recall.height, "greedy_tf_disagree": 0}
    assert recall["exact"].sum() > 20


def test_the_probability_of_a_suffix_agrees_with_real_samples(run, lab, capsys) -> None:
    """2,000 samples per item under top-k 40; the frequency lies in the 99.9% binomial interval."""
    items = {
        row["item_id"]: row for row in map(json.loads, lab.items.read_text(encoding="utf-8").splitlines())
    }
    extraction = run.table("extraction").filter(
        pl.col("scheme") == "top40", pl.col("pz").is_between(0.02, 0.98), pl.col("suffix_tokens") <= 20
    )
    chosen = extraction.sort(pl.col("item_id").hash(seed=0), "step").head(N_SAMPLED_ITEMS)
    assert chosen.height == N_SAMPLED_ITEMS
    outside = []
    for row in chosen.iter_rows(named=True):
        hits = _sampled_hits(lab.main / row["revision"], items[row["item_id"]], row)
        interval = clopper_pearson(hits, N_SAMPLES, level=0.999)
        if not interval.lo <= row["pz"] <= interval.hi:
            outside.append((row["item_id"], row["pz"], hits / N_SAMPLES))
    with capsys.disabled():
        print(
            f"\np_z against {N_SAMPLES} samples: {len(outside)} of {chosen.height} outside the 99.9% interval"
        )
    assert outside == []


def _sampled_hits(folder: Path, item: dict, row: dict) -> int:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    text = item.get("text") or item["prefix"] + item["suffix"]
    ids = tokenizer(text)["input_ids"]
    n_front = len(ids) - len(tokenizer(text, add_special_tokens=False)["input_ids"])
    border, k = n_front + row["prefix_tokens"], row["suffix_tokens"]
    prompt, true = torch.tensor([ids[:border]]), torch.tensor(ids[border : border + k])
    torch.manual_seed(0)
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        top_k=40,
        top_p=1.0,
        temperature=1.0,
        max_new_tokens=k,
        min_new_tokens=k,
        num_return_sequences=N_SAMPLES,
        eos_token_id=None,
        pad_token_id=0,
    )
    return int((out[:, border:] == true).all(1).sum())


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-m", "slow", "-s", "-q"]))
