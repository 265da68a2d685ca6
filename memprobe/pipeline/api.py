"""The pipeline: plan, score, measure, summarise. Everything else is called from here.

`run` answers a question about checkpoints and leaves a run directory; reading.py opens one.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from memprobe.errors import LostClaimError
from memprobe.options import GivenOptions
from memprobe.pipeline.again import write_items
from memprobe.pipeline.listener import Listener, NullListener
from memprobe.pipeline.manifest import merge_stages
from memprobe.pipeline.prepare import Prepared, prepare
from memprobe.pipeline.question import Question, ask
from memprobe.pipeline.reading import Run
from memprobe.pipeline.record import CARRIED
from memprobe.pipeline.score import complete
from memprobe.pipeline.suite import Suite, write_suite
from memprobe.pipeline.supply import check_supplies
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore


def run(
    suite: str | Path | Suite | None = None,
    *,
    probes: str | Sequence[str] = (),
    settings: str | Sequence[str] = (),
    out: str | Path | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
    **options: Unpack[GivenOptions],
) -> Run:
    """Answer a question about checkpoints; work that is done already is not repeated.

    Works in a notebook and in any thread.

    Example:
        run = memprobe.run("quickstart", model="runs/my-model", data="items.jsonl", out="reports/mine")
        print(run.summary)

    Args:
        suite: A suite, the name of one that ships, or a path ending in `.toml`; None: use `probes`.
        probes: Only these probes of the suite, or these with default settings if there is no suite.
        settings: `PROBE.KEY=VALUE`, like `recall.suffix_tokens=20`.
        out: The run directory; None: under `reports/`, named after the question.
        fresh: Start over: empty the directory first, if it holds a run.
        listener: Receives the progress.
        **options: The fields of `RunOptions`: `model`, `data`, `steps`, `device` and so on; a single model
            or file needs no list.

    Returns:
        The run; `failures` lists checkpoints that could not be scored.

    Raises:
        InputError: The question is wrong; nothing was done.
        SafetyError: Something unsafe, or the network under `offline`, was needed.
    """
    given = {
        name: _listed(value) if name in ("model", "data", "map") else value for name, value in options.items()
    }
    question = ask(suite, probes=_listed(probes), settings=_listed(settings), out=out, options=given)
    return answer_question(question, fresh=fresh, listener=listener or NullListener())


def _listed(value: object) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))  # type: ignore[call-overload]


def answer_question(question: Question, *, fresh: bool, listener: Listener) -> Run:
    """Prepare, score, measure and summarise one question."""
    store = RunStore(question.out, private=question.options.include_text)
    started = time.perf_counter()
    try:
        prepared = _begin(question, store, listener, fresh=fresh)
        complete(prepared, store, listener, started=started)
    finally:
        store.release()
    return Run(question.out)


def _begin(question: Question, store: RunStore, listener: Listener, *, fresh: bool) -> Prepared:
    """Prepare the question and write it to the run directory."""
    # A question that cannot be asked must not cost the run that is there.
    prepared = prepare(question, listener, fresh=fresh)
    check_supplies(prepared, None if fresh else store)
    if fresh:
        store.empty()
    store.create()
    while True:
        try:
            with store.lock(waiting=listener.note):
                if _write_down(prepared, question, store):
                    return prepared
        except LostClaimError:
            continue
        # Another process added a probe between our look at the directory and now.
        prepared = prepare(question, listener)


def _write_down(prepared: Prepared, question: Question, store: RunStore) -> bool:
    """Write the question to the run directory; returns False if another question came first."""
    before = store.read_manifest()
    if before is not None and merge_stages(before, prepared.manifest) != prepared.manifest.stages:
        return False
    store.write_text("suite.toml", write_suite(prepared.suite, question.options))
    store.write_lines("skipped.jsonl", _skipped(prepared))
    tables = write_items(prepared.plans, store, include_text=prepared.options.include_text)
    # Workers wait for the manifest, so it comes last.
    store.write_manifest(_asked(prepared, before).changed(tables=tables))
    return True


def _asked(prepared: Prepared, before: Manifest | None) -> Manifest:
    """Return the manifest of a run that begins or continues: the question, and the time spent so far."""
    lengths = zip(prepared.manifest.sequences, prepared.plans, strict=True)
    kept = {name: getattr(before, name) for name in CARRIED if before is not None and name in before.keys}
    return prepared.manifest.changed(
        flags=asdict(prepared.options),
        sequences=tuple(about.changed(n_units=len(plan.units)) for about, plan in lengths),
        **kept,
    )


def _skipped(prepared: Prepared) -> list[dict[str, Any]]:
    """Return the items left out: bad items, and items that a probe cannot measure."""
    bad = [{**row, "probe": None} for row in prepared.items.skipped.iter_rows(named=True)]
    places = prepared.items.table.select("item_id", file="source_file", line="source_line")
    unfit = prepared.unfit.join(places, on="item_id", maintain_order="left")
    return [*bad, *({**row, "column": None} for row in unfit.iter_rows(named=True))]
