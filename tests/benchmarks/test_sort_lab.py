"""SORT end to end: a lab model learns to answer from context, on held-out documents of two kinds.

Invented documents need nothing; the books need those that MEMPROBE_TEST_DATA points to, and skip, saying
so, where they are not. About ten minutes of one core each.
"""

import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import memprobe
from memprobe.documents import Cells, read_documents, sort_trials
from memprobe.lab import TrainSettings, grammar, train_text

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("MEMPROBE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
UPDATES, QUESTIONS = 1100, 48
SETTINGS = TrainSettings(
    hidden=96,
    layers=3,
    heads=4,
    context_tokens=256,
    updates=UPDATES,
    checkpoints=1,
    batch_sequences=1,
    passes=10,
    sort_questions=UPDATES * QUESTIONS,
)
CELLS = Cells(excerpt_words=(60,), segment_words=(8,), per_cell=110, validation=10)


def invented(folder: Path) -> list[Path]:
    """Write four documents of invented sentences, some 9,000 words each, in an order that nothing tells."""
    files = []
    for number in range(4):
        rng = np.random.default_rng(number)
        told = [grammar.biography(name, rng) for name in grammar.people(250, rng)]
        for town in grammar.TOWNS[number::4]:
            told += [text for _, text in grammar.annals(town, 12, rng)]
        # Inside a life, birth comes first: in the order of their lives, sentences could be told apart.
        sentences = re.findall(r"[^.]+\.", " ".join(told))
        order = rng.permutation(len(sentences))
        files.append(folder / f"invented-{number}.txt")
        files[-1].write_text("\n".join(sentences[i].strip() for i in order), encoding="utf-8")
    return files


def books(folder: Path) -> list[Path]:
    """Copy the books, line ends made plain as the lab reads them."""
    found = sorted((DATA / "books").glob("*.txt"))
    if len(found) < 2:
        pytest.skip("the books are not here: set MEMPROBE_TEST_DATA")
    for file in found:
        (folder / file.name).write_text(file.read_text(encoding="utf-8-sig"), encoding="utf-8")
    return [folder / file.name for file in found]


@pytest.fixture(scope="module", params=[invented, books], ids=["invented", "books"])
def accuracy(request, tmp_path_factory) -> pl.DataFrame:
    """Train on all documents but the last; ask about the last; return the pooled rows, by step."""
    folder = tmp_path_factory.mktemp("sort")
    *trained, held_out = request.param(folder)
    lab = train_text(trained, folder / "lab", settings=SETTINGS, threads=1)
    trials = folder / "trials.parquet"
    sort_trials(read_documents([str(held_out)]), CELLS).items.write_parquet(trials)
    run = memprobe.run(
        probes=["sort"],
        settings=['sort.templates=["short"]'],
        model=lab.main,
        data=trials,
        out=folder / "run",
        threads=1,
    )
    cells = ("excerpt_words", "segment_words", "distance_bin", "position_bin", "group")
    return run.table("sort_accuracy").filter(pl.col(name).is_null() for name in cells)


def pooled(accuracy: pl.DataFrame, step: int, condition: str) -> dict[str, float]:
    """Return the row of one step and condition over all test trials."""
    (row,) = accuracy.filter(pl.col("step") == step, pl.col("condition") == condition).to_dicts()
    assert row["n_trials"] >= 300
    return row


def test_a_lab_model_answers_from_context_and_not_from_memory_it_cannot_have(accuracy, capsys) -> None:
    in_context = pooled(accuracy, UPDATES, "in_context")
    parametric = pooled(accuracy, UPDATES, "parametric")
    with capsys.disabled():
        for row in (in_context, parametric):
            interval = f"{row['accuracy_frac']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
            print(f"\n{row['condition']}: {interval}, {row['n_trials']} trials, mass {row['label_mass']:.2f}")
    assert in_context["ci_low"] > 0.5
    assert parametric["ci_low"] <= 0.5 <= parametric["ci_high"]
    assert min(in_context["label_mass"], parametric["label_mass"]) > 0.9


def test_the_untrained_model_does_not_answer(accuracy) -> None:
    assert pooled(accuracy, 0, "in_context")["label_mass"] < 0.1
