"""What the fuzzer starts from: a tiny sequence whose greedy text is known, and numbers recomputed naively.

The head of the model gives letters alone, so that what it says is text, and suffixes that it says are exact.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

from tests.conftest import make_tokenizer

CONTEXT = 64
STEPS = (1, 2)
MARK = "qxvkz"
"""Stands in every text of an item, and may be in no message."""


@dataclass(frozen=True)
class World:
    """Checkpoints, items and a finished run that every input starts from; nothing changes them.

    Attributes:
        root: Folder of everything.
        main: The sequence.
        items: Sound items, for inputs that are about something else.
        run: A finished run of recall on both.
        rules: Sound rules for the run.
    """

    root: Path
    main: Path
    items: Path
    run: Path
    rules: Path


class Naive:
    """A model's own logits, one string at a time: nothing of memprobe's scoring is used."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = make_tokenizer()

    def ids(self, row: dict[str, Any]) -> tuple[list[int], int]:
        """Return an item's ids and where its suffix begins: half of it, unless it says so."""
        if row.get("input_ids") is not None:
            ids = [int(each) for each in row["input_ids"]]
            return ids, len(ids) // 2
        whole = row["text"] if row.get("text") is not None else row["prefix"] + row["suffix"]
        ids = self.tokenizer(whole, add_special_tokens=False)["input_ids"]
        # One token for each byte.
        n_prefix = len(row["prefix"].encode()) if row.get("text") is None else len(ids) // 2
        return ids, n_prefix

    @torch.inference_mode()
    def hits(self, ids: list[int], n_prefix: int) -> list[bool]:
        """Return for each token of the suffix whether it is the argmax given those before it."""
        logits = self.model(torch.tensor([ids])).logits[0]
        return [int(logits[place - 1].argmax()) == ids[place] for place in range(n_prefix, len(ids))]

    def recall(self, row: dict[str, Any]) -> tuple[bool, int, float] | None:
        """Return exact, lcp_tokens and hit_frac; None where the suffix has nothing before it."""
        ids, n_prefix = self.ids(row)
        if n_prefix == 0:
            return None
        hits = self.hits(ids, n_prefix)
        lcp = next((place for place, hit in enumerate(hits) if not hit), len(hits))
        return all(hits), lcp, float(np.float32(sum(hits) / len(hits)))

    @torch.inference_mode()
    def greedy(self, prefix: str, n: int) -> str:
        """Return what the model says after a prefix, n letters."""
        ids = self.tokenizer(prefix, add_special_tokens=False)["input_ids"]
        for _ in range(n):
            ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
        return self.tokenizer.decode(ids)[len(prefix) :]


def check_recall(run: Path, rows: list[dict[str, Any]], naive: dict[str, Naive]) -> None:
    """Check every number of recall against the models' own logits, by name or, without one, as a set."""
    table = pl.read_parquet(run / "tables" / "recall.parquet")
    assert table.height > 0
    named = {str(row["item_id"]): row for row in rows if row.get("item_id") is not None}
    for revision, part in table.group_by("revision"):
        model = naive[str(revision[0])]
        found = Counter()
        for row in part.iter_rows(named=True):
            got = None if row["exact"] is None else (row["exact"], row["lcp_tokens"], _short(row["hit_frac"]))
            if row["item_id"] in named:
                assert got == model.recall(named[row["item_id"]]), (revision, row["item_id"])
            else:
                found[got] += 1
        assert not found - Counter(model.recall(row) for row in rows if row.get("item_id") is None)
    _check_summary(run, table)


def _check_summary(run: Path, table: pl.DataFrame) -> None:
    summary = pl.read_parquet(run / "summary.parquet").filter(
        pl.col("metric").is_in(["exact_frac", "lcp_tokens", "hit_frac"]) & pl.col("group").is_null()
    )
    plain = summary.filter(pl.col("condition").fill_null("") == "")
    assert plain.height >= 3
    for row in plain.iter_rows(named=True):
        values = table.filter(pl.col("revision") == row["revision"])
        column = row["metric"].replace("exact_frac", "exact")
        mean = values[column].drop_nulls().cast(pl.Float64).mean()
        assert (row["estimate"] is None) == (mean is None)
        assert mean is None or abs(row["estimate"] - mean) < 1e-6, row


def _short(value: float) -> float:
    return float(np.float32(value))


def save_sequence(folder: Path) -> Path:
    """Write the sequence: letters alone can be the argmax."""
    tokenizer = make_tokenizer()
    letters = [tokenizer(each)["input_ids"][0] for each in "abcdefghijklmnopqrstuvwxyz"]
    others = [each for each in range(256) if each not in letters]
    for step in STEPS:
        torch.manual_seed(step)
        config = GPTNeoXConfig(
            vocab_size=256,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=CONTEXT,
            initializer_range=0.4,
        )
        model = GPTNeoXForCausalLM(config)
        with torch.no_grad():
            model.get_output_embeddings().weight[others] = 0.0
        model.save_pretrained(folder / f"step{step}")
    tokenizer.save_pretrained(folder)
    return folder
