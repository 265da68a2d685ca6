"""Trains a controlled checkpoint sequence: the demo's, or one on the user's own text.

OUT/main/step<N> (and OUT/twin/step<N>), OUT/items.jsonl, OUT/truth.parquet, and OUT/lab.json,
which says what was asked and counted. All is made in a hidden folder and moved when finished.
"""

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memprobe.errors import InputError, Problem, RunMismatchError
from memprobe.lab.canaries import check_lengths, read_canaries
from memprobe.lab.corpus import LabItem, Preset, demo_corpus, tokenizer_texts
from memprobe.lab.optimise import Course, train_sequence
from memprobe.lab.questions import QuestionSource, example_texts
from memprobe.lab.settings import LabProgress, LabResult, OnProgress, TrainSettings
from memprobe.lab.text import plan_text, read_texts, text_sequences
from memprobe.lab.tokenizer import train_tokenizer
from memprobe.lab.truth import (
    phase_steps,
    swap,
    training_order,
    truth_table,
    with_task_ends,
    write_items,
    write_truth,
)
from memprobe.parsing import UnreadableError, read_json
from memprobe.tables.files import write_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 1
_PARTIAL = ".partial"
# Raised when the corpus changes, so that no lab of an earlier one is taken for today's.
_DEMO_CORPUS = 2
_DEMO_BATCH_SEQUENCES = 5
# Items have at most some 70 tokens; the rest is room for probes that put something in front.
_DEMO_CONTEXT_TOKENS = 256
_DEMO_CHECKPOINTS: Mapping[Preset, int] = {"quick": 7, "full": 14}


@dataclass(frozen=True, slots=True)
class _Job:
    """All that is known before the first update."""

    asked: Mapping[str, object]
    items: Sequence[LabItem]
    settings: TrainSettings
    tokenizer: "PreTrainedTokenizerFast"
    spares: Sequence[LabItem] = ()
    left_out: Sequence[str] = ()
    counts: Mapping[str, int] | None = None
    questions: Callable[[], QuestionSource] | None = None


def train_demo(
    out: Path,
    *,
    preset: Preset = "quick",
    seed: int = 0,
    threads: int | None = None,
    progress: OnProgress | None = None,
) -> LabResult:
    """Train the demo's model on memprobe's own corpus, canaries planted.

    Args:
        out: The lab's folder.
        preset: `quick` or `full`, which has twice the items and checkpoints.
        seed: Of corpus, tokenizer, weights and order.
        threads: Of torch; None: as many as torch takes. The same seed and threads give the same
            weights.
        progress: Called after the tokenizer is trained and after each update.

    Returns:
        Where it is. A finished lab of the same request is returned as it is.

    Raises:
        InputError: The preset or seed is impossible, or `out` holds something else.
    """
    if preset not in _DEMO_CHECKPOINTS or seed < 0:
        raise InputError(f"preset {preset}, seed {seed}", fix="give quick or full, and a seed of 0 or more")
    started = time.monotonic()
    asked = {"kind": "demo", "corpus": _DEMO_CORPUS, "preset": preset, "seed": seed}
    if finished := _finished(out, asked):
        return finished
    corpus = demo_corpus(preset, seed)
    settings = TrainSettings(
        hidden=128,
        layers=3,
        heads=4,
        context_tokens=_DEMO_CONTEXT_TOKENS,
        updates=-(-sum(item.n_exposures for item in corpus) // _DEMO_BATCH_SEQUENCES),
        checkpoints=_DEMO_CHECKPOINTS[preset],
        batch_sequences=_DEMO_BATCH_SEQUENCES,
        learning_rate=3e-3,
        vocabulary=512,
        seed=seed,
    )
    listen = progress or _unheard
    tokenizer = train_tokenizer(tokenizer_texts(seed), settings.vocabulary)
    listen(LabProgress("tokenizer", 0, 0, None))
    items = with_task_ends(corpus, settings.updates)
    return _carry_out(_Job(asked, items, settings, tokenizer), out, threads, listen, started)


def train_text(
    texts: Sequence[Path],
    out: Path,
    *,
    canaries: Path | None = None,
    settings: TrainSettings,
    leave_out: int = 0,
    threads: int | None = None,
    progress: OnProgress | None = None,
) -> LabResult:
    """Train a model on windows of the user's texts and on their canaries.

    How much of the texts is used follows from the settings, see `memprobe.lab.text`.

    Args:
        texts: UTF-8 files; their names become `doc_id`.
        out: The lab's folder.
        canaries: JSONL with `prefix`, `suffix`, `exposures`.
        settings: Model and training.
        leave_out: Trained windows that a twin is not trained on; 0: no twin. The twin has the same
            weights at the start and the same order, with unused windows in their place.
        threads: Of torch; None: as many as torch takes.
        progress: Called after the tokenizer is trained and after each update.

    Returns:
        Where it is. A finished lab of the same request is returned as it is.

    Raises:
        InputError: A text, the canaries or the settings cannot be used, or `out` holds something else.
    """
    if leave_out < 0:
        raise InputError(f"leave_out is {leave_out}", fix="give 0 or more")
    started = time.monotonic()
    contents = read_texts(texts)
    planted = read_canaries(canaries, contents) if canaries else []
    # Before the tokenizer is trained, so that a wrong setting costs no waiting.
    text_sequences(planted, settings, leave_out)
    asked = {
        "kind": "text",
        "settings": asdict(settings),
        "leave_out": leave_out,
        "texts": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()},
        "canaries": hashlib.sha256(canaries.read_bytes()).hexdigest() if canaries else None,
    }
    if finished := _finished(out, asked):
        return finished
    listen = progress or _unheard
    examples = example_texts() if settings.sort_questions else []
    tokenizer = train_tokenizer([*contents.values(), *examples], settings.vocabulary)
    listen(LabProgress("tokenizer", 0, 0, None))
    if canaries:
        check_lengths(planted, tokenizer, settings.context_tokens, canaries)
    questions = _questions(contents, tokenizer, settings)
    plan = plan_text(contents, planted, tokenizer, settings, leave_out)
    counts = {"rejected_cuts": plan.cuts.n_rejected, "repeated_windows": plan.cuts.n_repeated}
    job = _Job(asked, plan.items, settings, tokenizer, plan.spares, plan.left_out, counts, questions)
    return _carry_out(job, out, threads, listen, started)


def _questions(
    texts: Mapping[str, str], tokenizer: "PreTrainedTokenizerFast", settings: TrainSettings
) -> Callable[[], QuestionSource] | None:
    """Return a maker of the questions' source: main sequence and twin are asked the same."""
    if not settings.sort_questions:
        return None
    source = functools.partial(
        QuestionSource, texts.values(), tokenizer, settings.context_tokens, settings.seed
    )
    # Once before any training, so that labels which are no tokens cost no waiting.
    source()
    return source


def open_lab(folder: Path) -> LabResult | None:
    """Return the finished lab in `folder`, or None where there is none."""
    manifest = folder / "lab.json"
    if not manifest.is_file():
        return None
    try:
        stored = read_json(manifest)
        known = {name: stored[name] for name in ("seconds", "asked", "counts")}
    except (UnreadableError, KeyError, TypeError) as error:
        fix = "train into another folder, or remove this one"
        what = f"lab.json is not what the lab writes: {type(error).__name__}: {error}"
        raise InputError(what, where=str(manifest), fix=fix) from error
    twin = folder / "twin"
    return LabResult(
        folder=folder,
        main=folder / "main",
        twin=twin if twin.is_dir() else None,
        items=folder / "items.jsonl",
        truth=folder / "truth.parquet",
        **known,
    )


def _unheard(_: LabProgress) -> None:
    """Ignore the progress."""


def _finished(out: Path, asked: Mapping[str, object]) -> LabResult | None:
    """Return the lab that was asked for if it is there already; refuse a folder that holds another."""
    lab = open_lab(out)
    if lab is not None:
        if lab.asked == asked:
            return lab
        problems = [
            Problem(f"{key}: {lab.asked.get(key)} there, {asked.get(key)} asked for")
            for key in sorted({*lab.asked, *asked})
            if lab.asked.get(key) != asked.get(key)
        ]
        raise RunMismatchError(
            [Problem("the folder holds another lab", str(out), "choose another folder"), *problems]
        )
    taken = [name for name in ("main", "twin", "items.jsonl", "truth.parquet") if (out / name).exists()]
    if taken:
        raise InputError(
            f"the folder holds {', '.join(taken)}, but no finished lab",
            where=str(out),
            fix="choose another folder, or remove them",
        )
    return None


def _carry_out(job: _Job, out: Path, threads: int | None, listen: OnProgress, started: float) -> LabResult:
    partial = out / _PARTIAL
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    everything = [*job.items, *job.spares]
    phases = {i: phase_steps(item, job.settings.updates) for i, item in enumerate(everything)}
    batches = training_order(
        [item.n_exposures for item in everything],
        job.settings.batch_sequences,
        job.settings.seed,
        {i: steps for i, steps in phases.items() if steps is not None},
    )
    sequences = [_sequence(item, job.tokenizer) for item in everything]
    courses = [Course("main", partial / "main", sequences, batches, job.questions)]
    if job.left_out:
        index = {item.item_id: i for i, item in enumerate(everything)}
        replacement = {index[item_id]: len(job.items) + i for i, item_id in enumerate(job.left_out)}
        courses.append(Course("twin", partial / "twin", sequences, swap(batches, replacement), job.questions))
    for course in courses:
        train_sequence(course, job.tokenizer, job.settings, threads=threads, progress=listen)
    truth = truth_table(job.items, batches, frozenset(job.left_out))
    write_truth(truth, partial / "truth.parquet")
    write_items(job.items, truth, partial / "items.jsonl")
    _write_manifest(job, partial / "lab.json", threads, time.monotonic() - started)
    return _move(partial, out)


def _sequence(item: LabItem, tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    ids: list[int] = tokenizer(item.text + item.tail)["input_ids"]
    return [*ids, tokenizer.eos_token_id] if item.ends else ids


def _write_manifest(job: _Job, path: Path, threads: int | None, seconds: float) -> None:
    import torch
    import transformers

    from memprobe._version import __version__

    groups = [item.group for item in job.items]
    content = {
        "format": FORMAT,
        "asked": job.asked,
        "settings": asdict(job.settings),
        "counts": {
            **{f"{group}_items": groups.count(group) for group in dict.fromkeys(groups)},
            "spare_windows": len(job.spares),
            "left_out_items": len(job.left_out),
            **(job.counts or {}),
        },
        "threads": threads or torch.get_num_threads(),
        "seconds": round(seconds, 2),
        "versions": {
            "memprobe": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())


def _move(partial: Path, out: Path) -> LabResult:
    """Move the finished parts to their place; the manifest goes last and says that all is there."""
    for name in ("main", "twin", "items.jsonl", "truth.parquet", "lab.json"):
        if (partial / name).exists():
            (partial / name).rename(out / name)
    partial.rmdir()
    lab = open_lab(out)
    if lab is None:
        raise ValueError(f"{out}: lab.json was written and is gone")
    return lab
