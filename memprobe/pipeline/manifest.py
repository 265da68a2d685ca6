"""What a run was asked and what it did: the manifest, and whether a directory fits a question.

The identity below decides whether an existing run directory may be continued: everything that a
number depends on. Device, threads and batch size may change speed and last digits only, and are
recorded.
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
from memprobe.probes.discovery import built_in, find, packages
from memprobe.tables.store import FORMAT

_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "polars", "numpy", "datasets")


def question_digest(suite: Suite, options: RunOptions) -> str:
    """Return 8 hex digits of what was asked, for the default run directory; device and speed left out."""
    asked = {
        "entries": [_entry(each) for each in suite.entries],
        "options": {
            name: value
            for name, value in asdict(options).items()
            if name not in ("device", "threads", "offline", "batch_tokens", "keep_checkpoints")
            # A question without a control or stages keeps the digest that it had before there were any.
            and (name, value) not in (("control", None), ("stages", None))
        },
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=list).encode()).hexdigest()[:8]


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "probe": entry.probe.name,
        "version": entry.probe.version,
        "settings": settings_table(entry.settings),
    }


def entries_of(stage: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Return the probe entries that a stage of the manifest names.

    Raises:
        RunMismatchError: The run was made with another version of a probe's definition.
    """
    problems, entries = [], []
    for each in stage:
        probe = find(each["probe"])
        if probe.version != each["version"]:
            problems.append(
                Problem(
                    f"{probe.name} is at version {probe.version}, the run holds version {each['version']}",
                    fix="give another directory with -o; results of different versions are never mixed",
                )
            )
            continue
        settings, found = check_table(each["settings"], probe.settings, "manifest.json")
        problems += found
        entries.append(Entry(probe, probe.settings(**settings)))
    if problems:
        raise RunMismatchError(problems)
    return tuple(entries)


def describe_checkpoints(
    sequences: Sequence[CheckpointSequence], contexts: Mapping[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return each checkpoint's identity; `contexts`: weights digest and score key by `model@revision`."""
    return [
        {
            "model": each.model,
            "revision": each.revision,
            "step": each.step,
            "folder": str(each.small_files),
            "commit": each.commit,
            "weights_digest": contexts[each.label][0],
            "tokenizer_digest": tokenizer_digest(each.tokenizer_folder) if each.tokenizer_folder else None,
            "context": contexts[each.label][1],
            "format": each.weights_format,
            "n_bytes": each.n_bytes,
            "n_parameters": each.n_parameters,
            "base": each.base.label if each.base else None,
        }
        for sequence in sequences
        for each in sequence.checkpoints
    ]


def describe_items(items: ItemSet) -> dict[str, Any]:
    """Return what the manifest says of the items."""
    return {
        "files": [asdict(file) for file in items.files],
        "n_items": items.table.height,
        "n_skipped": items.skipped.height,
        "n_unfit": 0,
        "n_copies": 0,
        "given": sorted(items.given),
        "digest": items.digest,
    }


def new_manifest(suite: Suite, options: RunOptions) -> dict[str, Any]:
    """Return a manifest with what is known before any work."""
    return {
        "format": FORMAT,
        "memprobe": __version__,
        "state": "scoring",
        "suite": {"name": suite.name, "title": suite.title, "source": suite.source},
        "stages": [[_entry(each) for each in suite.entries]],
        "probes": describe_probes(suite),
        "flags": asdict(options),
        # Paths in the flags may be relative to it.
        "cwd": str(Path.cwd()),
        "versions": versions(),
    }


def describe_probes(suite: Suite) -> dict[str, Any]:
    """Return by probe what a reader of its numbers needs: definition, metrics, tables, texts."""
    return {
        probe.name: {
            "version": probe.version,
            "title": probe.title,
            "formula": probe.formula,
            "source": probe.source,
            "metrics": [
                {
                    "name": metric.name,
                    "unit": metric.unit,
                    "more_means": metric.more_means,
                    "summary": metric.summary,
                    "more_is_memorized": metric.more_is_memorized,
                }
                for metric in probe.all_metrics
            ],
            "tables": list(
                dict.fromkeys(
                    name
                    for entry in suite.entries
                    if entry.probe is probe
                    for name in probe.table_names(entry.settings)
                )
            ),
            "about": asdict(probe.about),
            "rankings": None if probe.rankings is None else [asdict(each) for each in probe.rankings],
            "grids": [asdict(each) for each in probe.grids],
            **_package(probe.name),
        }
        for probe in {entry.probe.name: entry.probe for entry in suite.entries}.values()
    }


def _package(probe: str) -> dict[str, str]:
    """Return the package of a plugin; a probe of this one has its version in the manifest's `versions`."""
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


def identity(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return everything that must agree for a run to be continued, as name to value."""
    flat = {
        "items": str(manifest["items"]["digest"]),
        "BOS mode": str(manifest["bos"]),
        "dtype": str(manifest["dtype"]),
        "seed": str(manifest["seed"]),
        "include_text": str(manifest["include_text"]).lower(),
        "control": (manifest.get("control") or {"label": "none"})["label"],
    }
    for each in manifest["checkpoints"]:
        flat[_checkpoint_name(each)] = each["context"]
    return flat


def _checkpoint_name(each: Mapping[str, Any]) -> str:
    step = "no step" if each["step"] is None else f"step {each['step']}"
    return f"checkpoint {each['model']}@{each['revision']} ({step})"


def refuse_other_question(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    """Refuse a run directory that answers another question.

    Raises:
        RunMismatchError: Items, weights, BOS mode, dtype, seed, or the settings of a probe that the
            run already holds differ; the message lists every difference.
    """
    was, now = identity(old), identity(new)
    # A checkpoint that could not be scored has no number in the run, so it may be mended.
    failed = {_checkpoint_name(each) for each in old.get("failures", ())}
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


def _by_probe(manifest: Mapping[str, Any]) -> dict[str, list[Any]]:
    by_probe: dict[str, list[Any]] = {}
    for stage in manifest["stages"]:
        for entry in stage:
            by_probe.setdefault(entry["probe"], []).append([entry["version"], entry["settings"]])
    return by_probe


def merge_stages(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the run's stages with a new one for the probes that it does not hold yet."""
    held = _by_probe(old)
    added = [entry for stage in new["stages"] for entry in stage if entry["probe"] not in held]
    return [*old["stages"], *([added] if added else [])]
