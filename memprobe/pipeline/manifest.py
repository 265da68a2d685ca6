"""The manifest of a run, and whether a run directory fits a question.

A run directory may be continued if its identity is the same: everything that a number depends on. Device,
threads and batch size change only speed and last digits, and are recorded.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from memprobe._version import __version__
from memprobe.checkpoints import CheckpointSequence, tokenizer_digest
from memprobe.errors import Problem, RunMismatchError
from memprobe.items import ItemSet
from memprobe.options import RunOptions, check_table
from memprobe.pipeline.suite import Entry, Suite, settings_table
from memprobe.probes.contract import Probe
from memprobe.probes.discovery import built_in, find, packages
from memprobe.tables.manifest import (
    FORMAT,
    AboutEntry,
    CheckpointEntry,
    FailureEntry,
    FileEntry,
    GridEntry,
    ItemsEntry,
    Manifest,
    MetricEntry,
    ProbeEntry,
    RankingEntry,
    Stage,
    StageEntry,
    SuiteEntry,
)
from memprobe.tables.requests import ALWAYS

_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "polars", "numpy", "datasets")


def question_digest(suite: Suite, options: RunOptions) -> str:
    """Return 8 hex digits of the question, to name its run directory; device and speed do not count."""
    asked = {
        # Further statistics are not part of the question, so that a run keeps its directory's name.
        "entries": [_without_statistics(_entry(each).to_json()) for each in suite.entries],
        "options": {
            name: value
            for name, value in asdict(options).items()
            if name not in ("device", "threads", "offline", "batch_tokens", "keep_checkpoints")
            # A question without these options keeps the digest that it had before they existed.
            and (name, value) not in (("control", None), ("stages", None), ("map", ()))
        },
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=list).encode()).hexdigest()[:8]


def _entry(entry: Entry) -> StageEntry:
    return StageEntry(
        probe=entry.probe.name,
        version=entry.probe.version,
        settings=settings_table(entry.settings),
        statistics=tuple(ALWAYS),
    )


def _without_statistics(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "statistics"}


def entries_of(stage: Sequence[StageEntry]) -> tuple[Entry, ...]:
    """Return the probe entries that a stage of the manifest names.

    Raises:
        RunMismatchError: The run was made with another version of a probe's definition, or its units hold
            statistics that this version does not know.
    """
    problems, entries = [], []
    for each in stage:
        probe = find(each.probe)
        if unknown := sorted(set(each.statistics) - set(ALWAYS)):
            problems.append(
                Problem(
                    f"the run holds {', '.join(unknown)} of each token, which this memprobe does not know",
                    fix="read it with the version that made it, or give another directory with -o",
                )
            )
        if probe.version != each.version:
            problems.append(
                Problem(
                    f"{probe.name} is at version {probe.version}, the run holds version {each.version}",
                    fix="give another directory with -o; results of different versions are never mixed",
                )
            )
            continue
        settings, found = check_table(each.settings, probe.settings, "manifest.json")
        problems += found
        entries.append(Entry(probe, probe.settings(**settings)))
    if problems:
        raise RunMismatchError(problems)
    return tuple(entries)


def describe_checkpoints(
    sequences: Sequence[CheckpointSequence], contexts: Mapping[str, tuple[str, str]]
) -> tuple[CheckpointEntry, ...]:
    """Return each checkpoint's identity; `contexts`: weights digest and score key by `model@revision`."""
    return tuple(
        CheckpointEntry(
            model=each.model,
            revision=each.revision,
            step=each.step,
            folder=str(each.small_files),
            commit=each.commit,
            weights_digest=contexts[each.label][0],
            tokenizer_digest=tokenizer_digest(each.tokenizer_folder) if each.tokenizer_folder else None,
            context=contexts[each.label][1],
            format=each.weights_format,
            n_bytes=each.n_bytes,
            n_parameters=each.n_parameters,
            base=each.base.label if each.base else None,
        )
        for sequence in sequences
        for each in sequence.checkpoints
    )


def describe_items(items: ItemSet) -> ItemsEntry:
    """Return the items as the manifest describes them."""
    return ItemsEntry(
        files=tuple(FileEntry(**asdict(file)) for file in items.files),
        n_items=items.table.height,
        n_skipped=items.skipped.height,
        given=tuple(sorted(items.given)),
        digest=items.digest,
    )


def new_manifest(suite: Suite, options: RunOptions) -> Manifest:
    """Return a manifest with what is known before any work."""
    return Manifest().changed(
        format=FORMAT,
        memprobe=__version__,
        state="scoring",
        suite=SuiteEntry(name=suite.name, title=suite.title, source=suite.source),
        stages=(tuple(_entry(each) for each in suite.entries),),
        probes=describe_probes(suite),
        flags=asdict(options),
        # Paths in the flags may be relative to it.
        cwd=str(Path.cwd()),
        versions=versions(),
    )


def describe_probes(suite: Suite) -> dict[str, ProbeEntry]:
    """Return, for each probe, what readers of its numbers need: definition, metrics, tables, texts."""
    probes = {entry.probe.name: entry.probe for entry in suite.entries}
    return {name: _described(probe, suite) for name, probe in probes.items()}


def _described(probe: Probe, suite: Suite) -> ProbeEntry:
    settings = [entry.settings for entry in suite.entries if entry.probe is probe]
    return ProbeEntry(
        version=probe.version,
        title=probe.title,
        formula=probe.formula,
        source=probe.source,
        metrics=tuple(
            MetricEntry(
                name=metric.name,
                unit=metric.unit,
                more_means=metric.more_means,
                summary=metric.summary,
                more_is_memorized=metric.more_is_memorized,
            )
            for metric in probe.all_metrics
        ),
        tables=tuple(dict.fromkeys(name for each in settings for name in probe.table_names(each))),
        about=AboutEntry(**asdict(probe.about)),
        rankings=None
        if probe.rankings is None
        else tuple(RankingEntry(**asdict(each)) for each in probe.rankings),
        grids=tuple(GridEntry(**asdict(each)) for each in probe.grids),
        rest=_package(probe.name),
    )


def _package(probe: str) -> dict[str, str]:
    """Return the package of a plugin's probe; empty for built-in probes, whose version is in `versions`."""
    return {} if probe in built_in() else {"package": packages().get(probe, "")}


def versions() -> dict[str, str]:
    """Return the versions that a number may depend on."""
    found = {"python": platform.python_version(), "memprobe": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def identity(manifest: Manifest) -> dict[str, str]:
    """Return everything that must agree before a run can be continued, as name to value."""
    flat = {
        "items": manifest.measured.digest,
        "BOS mode": manifest.bos,
        "dtype": manifest.dtype,
        "seed": str(manifest.seed),
        "include_text": str(manifest.include_text).lower(),
        "control": manifest.control.label if manifest.control else "none",
    }
    for each in manifest.checkpoints:
        flat[_checkpoint_name(each)] = each.context
    return flat


def _checkpoint_name(each: CheckpointEntry | FailureEntry) -> str:
    step = "no step" if each.step is None else f"step {each.step}"
    return f"checkpoint {each.model}@{each.revision} ({step})"


def refuse_other_question(old: Manifest, new: Manifest, where: str) -> None:
    """Refuse a run directory that answers another question.

    Raises:
        RunMismatchError: Items, weights, BOS mode, dtype, seed, or the settings of a probe that the
            run already holds differ; the message lists every difference.
    """
    was, now = identity(old), identity(new)
    # A checkpoint that could not be scored has no numbers in the run, so it may be repaired.
    failed = {_checkpoint_name(each) for each in old.failures}
    problems = [
        Problem(_difference(name, was.get(name), now.get(name)), where)
        for name in dict.fromkeys([*was, *now])
        if was.get(name) != now.get(name) and not (name in failed and name in now)
    ]
    held, asked = _by_probe(old), _by_probe(new)
    problems += [
        Problem(
            f"settings of {probe} differ: held {json.dumps(held[probe])}, asked {json.dumps(asked[probe])}",
            where,
        )
        for probe in asked
        if probe in held and held[probe] != asked[probe]
    ]
    if problems:
        fix = "give another directory with -o, or pass --fresh to start over in this one"
        raise RunMismatchError(
            [*problems, Problem("the run directory belongs to another question", where, fix)]
        )


def _difference(name: str, was: str | None, now: str | None) -> str:
    if was is None:
        return f"{name} is not in the run"
    if now is None:
        return f"{name} is in the run and was not asked for"
    return f"{name} differs: held {was}, asked {now}"


def _by_probe(manifest: Manifest) -> dict[str, list[Any]]:
    by_probe: dict[str, list[Any]] = {}
    for entry in manifest.asked:
        by_probe.setdefault(entry.probe, []).append([entry.version, entry.settings])
    return by_probe


def merge_stages(old: Manifest, new: Manifest) -> tuple[Stage, ...]:
    """Return the run's stages, with a new one for probes that the run does not have yet."""
    held = _by_probe(old)
    added = tuple(entry for entry in new.asked if entry.probe not in held)
    return (*old.stages, *([added] if added else []))
