"""Runs of a manifest and a summary alone, as a gate reads them, and rules written in the test."""

import json

import polars as pl
import pytest

from memprobe.stats.intervals import wilson
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY
from tests.manifests import said_of

METRICS = {
    "extraction": [("rate_frac", "fraction", "rate")],
    "recall": [
        ("exact_frac", "fraction", "rate"),
        ("lcp_tokens", "tokens", "mean"),
        ("exact_excess_frac", "fraction", "difference"),
    ],
    "forgetting": [("never_learned_frac", "fraction", "sequence")],
}


ITEM_TYPES = {
    **dict.fromkeys(("model", "item_id", "group", "content_hash"), pl.String),
    **dict.fromkeys(("exposures", "first_step"), pl.Int64),
    "trained": pl.Boolean,
}


def row(hits=None, n=100, **given):
    """One row of a summary: of `hits` among `n` items by Wilson, or with what is given."""
    whole = dict.fromkeys(SUMMARY.columns) | {
        **{"model": "m", "revision": "step10", "step": 10, "probe": "recall", "metric": "exact_frac"},
        **{"n_items": n, "n_clusters": n, "n_missing": 0, "unit": "fraction", "version": 1, "signature": "s"},
        "ci_level": 0.95,
    }
    if hits is not None:
        interval = wilson(hits, n)
        whole |= {
            "estimate": hits / n,
            "ci_low": interval.lo,
            "ci_high": interval.hi,
            "ci_method": "wilson",
        }
    if given.get("step") is not None and "revision" not in given:
        given["revision"] = f"step{given['step']}"
    return whole | given


def summary_of(rows):
    # As it is: what no table of ours holds, such as NaN, may have been put in by hand.
    return pl.DataFrame(rows, schema=SUMMARY.empty().schema, orient="row")


@pytest.fixture
def made(tmp_path):
    """Return a maker of runs: made([row(...), ...]) is its directory."""

    def make(rows, *, name="run", state="done", failures=(), steps=None, items=None, **manifest):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if items is not None:
            manifest["items"] = {"given": sorted({key for each in items for key in each})}
            (folder / "tables").mkdir(exist_ok=True)
            frame = pl.DataFrame([{"model": "m"} | each for each in items], schema=ITEM_TYPES, orient="row")
            RunStore(folder).write_table("items", frame)
        frame = summary_of(rows)
        RunStore(folder).write_table("summary", frame)
        if steps is None:
            steps = frame["step"].drop_nulls().unique().sort().to_list()
        models = frame["model"].unique(maintain_order=True).to_list() or ["m"]
        about = {
            "state": state,
            "failures": list(failures),
            "checkpoints": [
                {"model": model, "step": step, "revision": f"step{step}"}
                for model in models
                for step in steps
            ],
            "probes": {
                probe: {
                    "version": 1,
                    "metrics": [
                        {"name": each, "unit": unit, "summary": kind, "more_means": "more"}
                        for each, unit, kind in metrics
                    ],
                }
                for probe, metrics in METRICS.items()
            },
        }
        (folder / "manifest.json").write_text(json.dumps(said_of(**about | manifest)))
        return folder

    return make


@pytest.fixture
def ruled(tmp_path):
    """Return a writer of rules: ruled("max = 0.1") is a file with one rule about recall exact_frac."""

    def write(*rules, head="", name="rules.toml"):
        text = head
        for number, body in enumerate(rules, start=1):
            lines = [each.strip() for each in body.splitlines() if each.strip()]
            keys = {each.partition("=")[0].strip() for each in lines}
            base = {"id": f'"r{number}"', "probe": '"recall"', "metric": '"exact_frac"'}
            lines = [f"{key} = {value}" for key, value in base.items() if key not in keys] + lines
            text += "[[rule]]\n" + "\n".join(lines) + "\n\n"
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def judge(made, ruled):
    """Return what a gate says of rows and rules: judge([row(3)], "max = 0.1")."""
    from memprobe.gates.judge import gate

    def ask(rows, *rules, head="", baseline=None, allow_incomplete=False, **run):
        return gate(
            made(rows, **run), ruled(*rules, head=head), baseline=baseline, allow_incomplete=allow_incomplete
        )

    return ask
