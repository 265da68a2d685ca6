"""Find faults of a sequence of checkpoints, with their consequences for a study over time."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memprobe.checkpoints.contents import CONFIG, list_folder
from memprobe.checkpoints.digest import weights_digest
from memprobe.checkpoints.header import header
from memprobe.checkpoints.identity import Checkpoint
from memprobe.checkpoints.schedule import missing_steps
from memprobe.checkpoints.sequence import tokenizers
from memprobe.checkpoints.survey import Row, Survey
from memprobe.errors import CheckpointError, SafetyError
from memprobe.wording import counted, listed

Kind = Literal[
    "unloadable", "same step", "gap", "same weights", "index", "tokenizer", "config", "dtype", "base"
]
_LATE = (
    "items first seen there join the cohort of the next checkpoint, when part of what was learned is gone: "
    "instantaneous effects are biased down"
)
MEANS: Mapping[Kind, str] = {
    "unloadable": f"the step is lost to the study: {_LATE}",
    "same step": "two models at one step have no order in time; a run refuses them",
    "gap": _LATE,
    "same weights": "nothing changes between them, a flat segment that looks like perfect retention, and one "
    "of the steps is not what its name says; probes over time refuse them, others measure one model twice",
    "index": "the loader may miss tensors, and then refuses the checkpoint; or the index was made by hand",
    "tokenizer": "the same text has other tokens there, or none, so its scores cannot be compared; a run "
    "refuses them unless --tokenizer gives one for all",
    "config": "a change of score there may be one of the architecture or its settings, and no forgetting",
    "dtype": "weights were rounded differently there, so small score changes at that step are not training",
    "base": "the adapters change different models, so a change of score there is not theirs alone",
}
_ONE_OUT = "find out which one is right, and leave the other out with --steps"
_N_THREADS = 2
# Keys about saving, and the dtype, which is judged from the weights.
_NOT_SETTINGS = {"transformers_version", "_name_or_path", "dtype", "torch_dtype"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a sequence.

    Attributes:
        kind: Kind of fault; `MEANS` gives its consequence for a study.
        model: Name of the sequence.
        revisions: The checkpoints concerned; empty for missing steps.
        steps: Steps of these checkpoints, or the missing steps.
        what: The fault, with its numbers.
        fix: What to do about it; empty if nothing helps.
        stops: Whether a run, or a run over time, refuses or loses a checkpoint because of it.
        is_safety: Whether only a permission is missing.
    """

    kind: Kind
    model: str
    revisions: tuple[str, ...]
    steps: tuple[int | None, ...]
    what: str
    fix: str = ""
    stops: bool = False
    is_safety: bool = False

    @property
    def means(self) -> str:
        """Consequence for a study over time."""
        return MEANS[self.kind]

    def as_json(self) -> dict[str, Any]:
        """Return all fields and the consequence."""
        return asdict(self) | {"means": self.means}


def verify(
    survey: Survey,
    *,
    one_tokenizer: bool = False,
    on_digest: Callable[[Checkpoint], None] = lambda _: None,
) -> tuple[Finding, ...]:
    """Find the faults of a sequence; weights on this machine are read once, for their digests.

    Args:
        survey: The sequence.
        one_tokenizer: Whether `--tokenizer` is used for all checkpoints.
        on_digest: Called with each checkpoint whose weights have been hashed.
    """
    found = [*_unloadable(survey), *_same_step(survey), *_gaps(survey)]
    checkpoints = survey.loadable
    found += _same_weights(checkpoints, on_digest)
    for checkpoint in checkpoints:
        found += _index(checkpoint)
    if not one_tokenizer:
        found += _tokenizers(checkpoints)
    found += _configs(checkpoints)
    by_dtype = _grouped(checkpoints, lambda each: each.dtype)
    found += _differing("dtype", "the stored dtype differs", by_dtype, "", named=True)
    by_base = _grouped(
        [each for each in checkpoints if each.base], lambda each: each.base.label if each.base else None
    )
    found += _differing("base", "the base model differs", by_base, "", named=True)
    return tuple(found)


def refuse(findings: Iterable[Finding]) -> None:
    """Raise the errors that a run would raise.

    Raises:
        CheckpointError: A finding stops a run.
        SafetyError: All such findings need only a permission.
    """
    stopping = [finding for finding in findings if finding.stops]
    what = f"{counted(len(stopping), 'finding')} that a run, or a run over time, refuses"
    if stopping and all(finding.is_safety for finding in stopping):
        raise SafetyError(what, fix="pass --allow-pickle if you trust the files, or see the reasons above")
    if stopping:
        raise CheckpointError(what, fix="repair them, or leave these checkpoints out with --steps")


def _unloadable(survey: Survey) -> list[Finding]:
    """Return one finding for each reason why checkpoints cannot be loaded, with all of them."""
    shared: dict[tuple[str, str, bool], list[Row]] = {}
    for row in survey.rows:
        for problem in row.problems:
            shared.setdefault((problem.what, problem.fix, row.is_safety), []).append(row)
    return [
        Finding(
            "unloadable",
            survey.model,
            tuple(dict.fromkeys(row.revision for row in rows)),
            tuple(dict.fromkeys(row.step for row in rows)),
            what,
            fix,
            stops=True,
            is_safety=is_safety,
        )
        for (what, fix, is_safety), rows in shared.items()
    ]


def _same_step(survey: Survey) -> list[Finding]:
    fix = "name the checkpoints that you mean one by one, with -m for each"
    return [
        Finding(
            "same step", survey.model, tuple(names), (step,), f"{len(names)} have this step", fix, stops=True
        )
        for step, names in survey.twins.items()
    ]


def _gaps(survey: Survey) -> list[Finding]:
    """Return one finding for each run of consecutive missing steps, within each stage."""
    found = []
    for stage in dict.fromkeys(row.stage for row in survey.rows):
        rows = [row for row in survey.rows if row.stage == stage and row.step is not None]
        offset = rows[0].offset if rows else 0
        # A schedule counts from the beginning of its stage.
        present = sorted({(row.step or 0) - offset for row in rows})
        holes: dict[int, list[int]] = {}
        for step in missing_steps(present):
            holes.setdefault(max(each for each in present if each < step), []).append(step + offset)
        found += [
            Finding("gap", survey.model, (), tuple(steps), _gap(before + offset, steps))
            for before, steps in holes.items()
        ]
    return found


def _gap(before: int, steps: Sequence[int]) -> str:
    return f"{counted(len(steps), 'step')} of a regular schedule missing after step {before:,}"


def _same_weights(
    checkpoints: Sequence[Checkpoint], on_digest: Callable[[Checkpoint], None]
) -> list[Finding]:
    by_digest: dict[str, list[Checkpoint]] = {}
    with ThreadPoolExecutor(_N_THREADS) as pool:
        for checkpoint, digest in zip(checkpoints, pool.map(weights_digest, checkpoints), strict=True):
            by_digest.setdefault(digest, []).append(checkpoint)
            on_digest(checkpoint)
    return [
        _about("same weights", same, f"the same weights, by SHA-256 ({digest[:12]}...)", _ONE_OUT, stops=True)
        for digest, same in by_digest.items()
        if len(same) > 1
    ]


def _index(checkpoint: Checkpoint) -> list[Finding]:
    """Compare an index of shards with the headers of the shards."""
    name = "model.safetensors.index.json"
    if checkpoint.weights_format != "safetensors" or checkpoint.folder is None:
        return []
    if not (checkpoint.folder / name).is_file() or checkpoint.weight_files == ("model.safetensors",):
        return []
    index = list_folder(checkpoint.folder).json(name)
    headers = [header(checkpoint.folder / file) for file in checkpoint.weight_files]
    metadata = index.get("metadata")
    said = metadata.get("total_size") if isinstance(metadata, dict) else None
    held, n_tensors = (sum(getattr(each, key) for each in headers) for key in ("n_data_bytes", "n_tensors"))
    whats = []
    if isinstance(said, int) and said != held:
        whats.append(f"the index says {said:,} bytes and the shards hold {held:,}")
    if len(index["weight_map"]) != n_tensors:
        whats.append(
            f"the index names {len(index['weight_map']):,} tensors and the shards hold {n_tensors:,}"
        )
    return [_about("index", [checkpoint], what, "copy or download the checkpoint again") for what in whats]


def _tokenizers(checkpoints: Sequence[Checkpoint]) -> list[Finding]:
    """Return findings for tokenizers that differ, or are missing although other checkpoints have one."""
    fix = "pass --tokenizer with the one for all"
    digests = tokenizers(checkpoints)
    groups = {digest: [c for c in checkpoints if c.revision in names] for digest, names in digests.items()}
    found = _differing("tokenizer", "the tokenizer differs", groups, fix, stops=True)
    lacking = [each for each in checkpoints if each.tokenizer_folder is None]
    if lacking and groups:
        found.append(_about("tokenizer", lacking, "there is no tokenizer", fix, stops=True))
    return found


def _configs(checkpoints: Sequence[Checkpoint]) -> list[Finding]:
    """Return findings that name the settings in which config.json differs from most checkpoints."""
    settings = {each.revision: _settings(each) for each in checkpoints}
    groups = _grouped(checkpoints, lambda each: json.dumps(settings[each.revision], sort_keys=True))
    usual = max(groups.values(), key=len, default=[])
    found = []
    for group in groups.values():
        if group is not usual:
            ours, others = settings[group[0].revision], settings[usual[0].revision]
            differing = [
                key for key in sorted(ours.keys() | others.keys()) if ours.get(key) != others.get(key)
            ]
            found.append(
                _about("config", group, f"the settings in config.json differ: {listed(differing)}", "")
            )
    return found


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    config = list_folder(checkpoint.whole.small_files).json(CONFIG)
    return {key: value for key, value in config.items() if key not in _NOT_SETTINGS}


def _grouped(
    checkpoints: Sequence[Checkpoint], by: Callable[[Checkpoint], str | None]
) -> dict[str, list[Checkpoint]]:
    """Return the checkpoints grouped by a property, without those that lack it."""
    groups: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        if (value := by(checkpoint)) is not None:
            groups.setdefault(value, []).append(checkpoint)
    return groups


def _differing(
    kind: Kind,
    what: str,
    groups: Mapping[str, list[Checkpoint]],
    fix: str,
    *,
    stops: bool = False,
    named: bool = False,
) -> list[Finding]:
    """Return one finding for each group except the largest."""
    usual = max(groups, key=lambda value: len(groups[value]), default="")
    return [
        _about(kind, group, f"{what}: {value}, elsewhere {usual}" if named else what, fix, stops=stops)
        for value, group in groups.items()
        if value != usual
    ]


def _about(
    kind: Kind, checkpoints: Sequence[Checkpoint], what: str, fix: str, *, stops: bool = False
) -> Finding:
    revisions = tuple(each.revision for each in checkpoints)
    steps = tuple(each.step for each in checkpoints)
    return Finding(kind, checkpoints[0].model, revisions, steps, what, fix, stops=stops)
