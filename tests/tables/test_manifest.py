"""The typed manifest: a file that is read and written again says the same, and wrong kinds are refused."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import memprobe
from memprobe.errors import InvalidRunError
from memprobe.tables.manifest import CheckpointEntry, Manifest, StageEntry
from tests.manifests import manifest_of, said_of

SAMPLE = Path(__file__).parents[2] / "reports" / "sample" / "manifest.json"
CHECKPOINT = {"model": "m", "revision": "step1", "step": 1, "tokenizer_digest": None, "context": "c"}


def test_a_manifest_comes_back_with_its_keys_in_their_order(tiny, tmp_path) -> None:
    """Of a run with a control, and of the same run after a second command added a probe."""
    asked = {"model": tiny.model, "data": tiny.items, "out": tmp_path / "run", "threads": 1}
    texts = [SAMPLE.read_text(encoding="utf-8")]
    for probe in ("recall", "extraction"):
        memprobe.run(probes=probe, control=f"{tiny.model}/step0", **asked)
        texts.append((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    for text in texts:
        again = Manifest.from_json(json.loads(text)).to_json()
        assert json.dumps(again, indent=2, ensure_ascii=False) + "\n" == text
    assert [len(json.loads(text)["stages"]) for text in texts] == [1, 1, 2]


def test_unknown_keys_are_kept() -> None:
    said = said_of(later={"x": [1]}, checkpoints=[CHECKPOINT | {"keys": 3, "optimizer": "adam"}])
    made = Manifest.from_json(said)
    assert made.to_json() == said
    changed = made.changed(state="done").to_json()
    assert changed == said | {"state": "done"}
    assert list(changed) == [*said, "state"]


def test_a_run_that_begins_lacks_later_keys() -> None:
    made = Manifest.from_json({"format": 1})
    assert (made.state, made.failures, made.warnings, made.checks) == ("scoring", (), (), {})
    assert made.to_json() == {"format": 1}


def test_a_run_of_an_earlier_version_has_defaults() -> None:
    metric = {"name": "x", "unit": "nats", "more_means": "", "summary": "mean"}
    made = manifest_of(checkpoints=[CHECKPOINT], probes={"recall": {"version": 1, "metrics": [metric]}})
    assert made.checkpoints[0].n_parameters is None
    assert made.probes["recall"].about is None
    assert made.probes["recall"].metrics[0].more_is_memorized is True
    # Its sign says nothing where more of it means nothing.
    assert made.probes["recall"].metrics[0].direction is None


@pytest.mark.parametrize("name", ["stages", "sequences", "bos", "dtype", "seed"])
def test_no_default_stands_in_for_keys_on_which_numbers_depend(name) -> None:
    said = said_of(checkpoints=[CHECKPOINT])
    del said[name]
    with pytest.raises(InvalidRunError, match=f"does not say `{name}` of its checkpoints"):
        Manifest.from_json(said)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", "finished"),
        ("seed", True),
        ("seed", 1.5),
        ("include_text", 1),
        ("timings", {"score_s": "3"}),
        ("notes", "text"),
        ("control", {"model": "m"}),
        ("checkpoints", [{name: value for name, value in CHECKPOINT.items() if name != "context"}]),
        ("checkpoints", [CHECKPOINT | {"step": "1"}]),
        ("load_notes", [{"text": "x", "checkpoints": [["m"]]}]),
        ("probes", {"recall": {"version": 1, "metrics": [{"name": 3}]}}),
        ("stages", [[{"probe": "recall", "version": 1}]]),
    ],
)
def test_a_value_of_another_kind_is_refused_at_any_depth(key, value) -> None:
    with pytest.raises(InvalidRunError, match=f"`{key}` is not what memprobe writes there") as caught:
        Manifest.from_json(said_of() | {key: value}, "run/manifest.json")
    assert caught.value.problems[0].where == "run/manifest.json"


def test_items_are_not_guessed() -> None:
    made = manifest_of(items={"given": ["text"], "n_items": 3})
    assert (made.given, made.measured.n_items) == ({"text"}, 3)
    for name in ("given", "measured"):
        with pytest.raises(InvalidRunError, match="does not say what items"):
            getattr(manifest_of(), name)


def test_entries_are_equal_whatever_the_order_of_their_keys() -> None:
    made = StageEntry(probe="recall", version=1, settings={"n": [1]})
    read = StageEntry.from_json({"settings": {"n": [1]}, "version": 1, "probe": "recall"})
    assert made == read
    assert made != made.changed(version=2)
    with pytest.raises(FrozenInstanceError):
        made.version = 2


def test_the_scoring_signature_names_bos_dtype_and_tokenizer() -> None:
    made = manifest_of(bos="none", dtype="bfloat16")
    assert made.scoring_signature("a" * 64) == "bos:none|bfloat16|tok:aaaaaaaaaaaa"
    assert made.scoring_signature(None) == "bos:none|bfloat16|tok:none"


def test_a_checkpoint_is_written_with_all_its_keys() -> None:
    made = CheckpointEntry(model="m", revision="r", step=None, tokenizer_digest=None, context="c")
    assert list(made.to_json()) == [
        *("model", "revision", "step", "folder", "commit", "weights_digest", "tokenizer_digest", "context"),
        *("format", "n_bytes", "n_parameters", "base"),
    ]
