"""`--dry-run`: what a run would do, and roughly how long it would take, without loading a model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from memprobe.checkpoints import CheckpointSequence
from memprobe.errors import InputError, SafetyError
from memprobe.pipeline.listener import Notes
from memprobe.pipeline.plans import SequencePlan
from memprobe.pipeline.prepare import Prepared, prepare
from memprobe.pipeline.question import Question
from memprobe.pipeline.supply import check_supplies
from memprobe.tables.requests import Unit, is_search
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.tokenise import TokenisedItems

# Speed of a pass as a fraction of the speed of plain matrix products; see tests/benchmarks.
EFFICIENCY = 0.6
READ_BYTES_PER_S = 500e6


@dataclass(frozen=True, slots=True)
class Forecast:
    """The work that a run would do.

    Attributes:
        checkpoints: One row per checkpoint: `model, revision, step, units, units_left, tokens_left,
            searches_left, evaluations_left, searched_tokens_left, bytes, parameters`; the last is null if the
            weights do not show it. Searches are counted as if each used up its budget.
        totals: Name to value, in the order in which they are shown.
    """

    checkpoints: pl.DataFrame
    totals: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the forecast as values of JSON."""
        return {"checkpoints": self.checkpoints.to_dicts(), "totals": self.totals}


def forecast(question: Question, notes: Notes, *, fresh: bool = False) -> Forecast:
    """Prepare a question and count its work; with `fresh`, units in the run directory do not count.

    Raises:
        InputError: As for `prepare`.
    """
    prepared = prepare(question, notes, fresh=fresh)
    store = RunStore(question.out)
    try:
        check_supplies(prepared, None if fresh else store)
    except (InputError, SafetyError) as error:
        # This is only noted: the user may make room for the run later, or run it elsewhere.
        notes.note(f"here it could not run now: {error.problems[0].what}")
    n_unloadable = _tell_unloadable(prepared, notes)
    rows = [
        row
        for sequence, plan, tokenised in zip(
            prepared.sequences, prepared.plans, prepared.tokenised, strict=True
        )
        for row in _rows(sequence, plan, tokenised, None if fresh else store)
    ]
    flops = sum(
        2.0 * (row["parameters"] or 0) * (row["tokens_left"] + row["searched_tokens_left"]) for row in rows
    )
    read_s = sum(row["bytes"] for row in rows if row["units_left"]) / READ_BYTES_PER_S
    unknown = any(row["parameters"] is None for row in rows)
    frame = pl.DataFrame(rows)
    n_searches = int(frame["searches_left"].sum())
    totals = {
        "run": str(question.out),
        "device": prepared.options.device,
        "dtype": prepared.options.dtype,
        "items": prepared.items.table.height,
        "items_skipped": prepared.items.skipped.height + prepared.unfit["item_id"].n_unique(),
        "checkpoints": len(rows),
        **({"checkpoints_unloadable": n_unloadable} if n_unloadable else {}),
        "units": int(frame["units"].sum()),
        "units_left": int(frame["units_left"].sum()),
        "tokens_left": int(frame["tokens_left"].sum()),
        **({"searches_left": n_searches} if n_searches else {}),
        **({"evaluations_left": int(frame["evaluations_left"].sum())} if n_searches else {}),
        "bytes": int(frame["bytes"].sum()),
        "estimated_s": None if unknown else round(flops / (EFFICIENCY * _flops_per_s(prepared)) + read_s, 1),
    }
    return Forecast(frame, totals)


def _tell_unloadable(prepared: Prepared, notes: Notes) -> int:
    """Note which checkpoints cannot be scored, and why; returns their number."""
    from memprobe.scoring.fit import problems_of
    from memprobe.scoring.load import quiet_libraries

    quiet_libraries()
    n_unloadable = 0
    for each in (each for sequence in prepared.sequences for each in sequence.checkpoints):
        problems = problems_of(each, trust_remote_code=prepared.options.trust_remote_code)
        n_unloadable += bool(problems)
        for problem in problems:
            fix = f" ({problem.fix})" if problem.fix else ""
            notes.note(
                f"{each.label} cannot be loaded, so a run would end with exit code 4: {problem.what}{fix}"
            )
    return n_unloadable


def _rows(
    sequence: CheckpointSequence,
    plan: SequencePlan,
    tokenised: "TokenisedItems",
    store: RunStore | None,
) -> list[dict[str, Any]]:
    tokens = {key: _tokens(unit.requests, tokenised) for key, unit in plan.units.items()}
    searches = {key: unit.search for key, unit in plan.units.items() if unit.search}
    rows = []
    for each, target in zip(sequence.checkpoints, plan.targets, strict=True):
        left = [key for key in plan.units if store is None or not store.has_unit(target.context, key)]
        evaluations = {
            key: searches[key].budget * len(searches[key].seeds) for key in left if key in searches
        }
        rows.append(
            {
                "model": each.model,
                "revision": each.revision,
                "step": each.step,
                "units": len(plan.units),
                "units_left": len(left),
                "tokens_left": sum(tokens[key] for key in left),
                "searches_left": len(evaluations),
                "evaluations_left": sum(evaluations.values()),
                "searched_tokens_left": sum(
                    n * _tokens_tried(plan.units[key]) for key, n in evaluations.items()
                ),
                "bytes": each.n_bytes,
                "parameters": each.n_parameters,
            }
        )
    return rows


def _tokens(requests: pl.DataFrame, tokenised: "TokenisedItems") -> int:
    """Count the tokens that a unit reads, shared ones once; generation and searches are left out."""
    is_choice = pl.col("detail") == "choice"
    choices = requests.filter(is_choice)
    read = (
        requests.filter(~is_search() & ~is_choice)
        .group_by("item_id", "part", "start")
        .agg(n=(pl.col("stop") - pl.col("start")).max())["n"]
        .sum()
    )
    if choices.is_empty():
        return int(read)
    from memprobe.scoring.choices import choice_tokens

    return int(read) + choice_tokens(choices, tokenised)


def _tokens_tried(unit: Unit) -> int:
    """Return roughly the tokens that one candidate of a search reads: the target and as long a prompt.

    Tokens before the prompt are read once for all candidates.
    """
    start, score_from, stop = unit.requests.select("start", "score_from", "stop").row(0)
    return int((stop - start) + (stop - score_from))


def _flops_per_s(prepared: Prepared) -> float:
    """Measure the speed of matrix products on the device, for a tenth of a second or so."""
    from memprobe.scoring.speed import matmul_flops_per_s

    return matmul_flops_per_s(
        prepared.options.device, prepared.options.dtype, threads=prepared.options.threads
    )
