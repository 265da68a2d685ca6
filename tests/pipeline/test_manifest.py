"""What a run was asked, and when a directory may be continued: each difference is named."""

import json
from dataclasses import replace

import pytest

from memprobe import __version__
from memprobe.errors import RunMismatchError
from memprobe.options import RunOptions
from memprobe.pipeline.manifest import (
    describe_items,
    entries_of,
    identity,
    merge_stages,
    new_manifest,
    question_digest,
    refuse_other_question,
    versions,
)
from memprobe.pipeline.suite import load_suite, suite_of, with_settings
from memprobe.tables.manifest import Manifest

OPTIONS = RunOptions(model=("m",), data=("d.jsonl",))


def checkpoint(revision: str, step: int, context: str) -> dict[str, object]:
    return {"model": "m", "revision": revision, "step": step, "tokenizer_digest": None, "context": context}


def manifest(suite_name: str = "quickstart", **changed: object) -> Manifest:
    known = {
        "items": {"digest": "i1"},
        "bos": "default",
        "dtype": "float32",
        "seed": 0,
        "include_text": False,
        "sequences": [],
        "checkpoints": [checkpoint("step1", 1, "c1"), checkpoint("step2", 2, "c2")],
    }
    return Manifest.from_json(new_manifest(load_suite(suite_name), OPTIONS).to_json() | known | changed)


def refused(old: Manifest, new: Manifest) -> list[str]:
    with pytest.raises(RunMismatchError) as caught:
        refuse_other_question(old, new, "reports/x")
    assert {problem.where for problem in caught.value.problems} == {"reports/x"}
    assert caught.value.problems[-1].what == "the run directory belongs to another question"
    assert "--fresh" in caught.value.problems[-1].fix
    return [problem.what for problem in caught.value.problems[:-1]]


def test_the_same_question_goes_on() -> None:
    refuse_other_question(manifest(), manifest(), "reports/x")


def test_what_changes_speed_alone_is_no_other_question() -> None:
    faster = manifest(device="cuda:0", batch_tokens=9, versions={"torch": "9"}, memprobe="9")
    refuse_other_question(manifest(), faster, "reports/x")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"items": {"digest": "i2"}}, "items differs: held i1, asked i2"),
        ({"bos": "none"}, "BOS mode differs: held default, asked none"),
        ({"dtype": "bfloat16"}, "dtype differs: held float32, asked bfloat16"),
        ({"seed": 1}, "seed differs: held 0, asked 1"),
        ({"include_text": True}, "include_text differs: held false, asked true"),
        (
            {"checkpoints": [checkpoint("step1", 1, "c1"), checkpoint("step2", 2, "other")]},
            "checkpoint m@step2 (step 2) differs: held c2, asked other",
        ),
        (
            {"checkpoints": [checkpoint("step1", 1, "c1")]},
            "checkpoint m@step2 (step 2) is in the run and was not asked for",
        ),
        (
            {"checkpoints": [checkpoint(f"step{n}", n, f"c{n}") for n in (1, 2, 3)]},
            "checkpoint m@step3 (step 3) is not in the run",
        ),
    ],
)
def test_another_question_is_refused_with_its_difference(changed, message) -> None:
    assert refused(manifest(), manifest(**changed)) == [message]


def test_a_checkpoint_that_failed_may_be_mended_but_not_left_out() -> None:
    old = manifest(failures=[{"model": "m", "revision": "step2", "step": 2, "error": "corrupt"}])
    mended = manifest(checkpoints=[checkpoint("step1", 1, "c1"), checkpoint("step2", 2, "mended")])
    refuse_other_question(old, mended, "reports/x")
    other = manifest(checkpoints=[checkpoint("step1", 1, "other"), checkpoint("step2", 2, "c2")])
    assert refused(old, other) == ["checkpoint m@step1 (step 1) differs: held c1, asked other"]
    fewer = manifest(checkpoints=[checkpoint("step1", 1, "c1")])
    assert refused(old, fewer) == ["checkpoint m@step2 (step 2) is in the run and was not asked for"]


def test_all_differences_are_named_at_once() -> None:
    assert len(refused(manifest(), manifest(seed=1, bos="none", items={"digest": "i2"}))) == 3


def with_stage(suite) -> Manifest:
    return manifest().changed(stages=new_manifest(suite, OPTIONS).stages)


def test_other_settings_of_a_probe_that_the_run_holds_are_refused() -> None:
    asked = with_stage(with_settings(load_suite("quickstart"), ["recall.suffix_tokens=5"]))
    (message,) = refused(manifest(), asked)
    assert message.startswith("settings of recall differ: held [[1, ")
    assert '"suffix_tokens": 5' in message


def test_a_new_probe_is_welcome_and_becomes_a_stage() -> None:
    old, new = with_stage(suite_of(["recall"])), with_stage(suite_of(["extraction"]))
    refuse_other_question(old, new, "reports/x")
    stages = merge_stages(old, new)
    assert [[entry.probe for entry in stage] for stage in stages] == [["recall"], ["extraction"]]
    both = with_stage(suite_of(["recall", "recognition"]))
    assert [[e.probe for e in stage] for stage in merge_stages(old, both)] == [["recall"], ["recognition"]]
    assert merge_stages(old, old) == old.stages
    assert [[e.probe for e in stage] for stage in merge_stages(both, old)] == [["recall", "recognition"]]


@pytest.mark.parametrize("name", ["quickstart", "carlini2022", "hayes2024", "orhan2023"])
def test_entries_come_back_from_a_manifest_on_disk(name) -> None:
    suite = with_settings(load_suite(name), [])
    (stage,) = Manifest.from_json(json.loads(json.dumps(new_manifest(suite, OPTIONS).to_json()))).stages
    assert entries_of(stage) == suite.entries


def test_a_run_of_another_version_of_a_probe_is_refused() -> None:
    ((recall, extraction),) = new_manifest(suite_of(["recall", "extraction"]), OPTIONS).stages
    with pytest.raises(RunMismatchError, match="recall is at version 1, the run holds version 99") as caught:
        entries_of((recall.changed(version=99), extraction))
    assert len(caught.value.problems) == 1


def test_settings_that_no_longer_exist_are_refused() -> None:
    ((recall,),) = new_manifest(suite_of(["recall"]), OPTIONS).stages
    with pytest.raises(RunMismatchError, match="unknown setting `prefix_token`"):
        entries_of((recall.changed(settings={"prefix_token": 3}),))


def test_the_digest_names_the_question_not_the_machine() -> None:
    suite = load_suite("hayes2024")
    base = question_digest(suite, OPTIONS)
    assert len(base) == 8
    assert int(base, 16) >= 0
    for changed in ({"device": "cuda:0"}, {"threads": 3}, {"offline": True}, {"batch_tokens": 7}):
        assert question_digest(suite, replace(OPTIONS, **changed)) == base
    asked = [
        question_digest(suite, replace(OPTIONS, **changed))
        for changed in ({"model": ("n",)}, {"data": ("e",)}, {"steps": "0"}, {"seed": 1}, {"limit": 5})
    ]
    asked.append(question_digest(with_settings(suite, ["extraction.n=[1]"]), OPTIONS))
    asked.append(question_digest(suite_of(["extraction"]), OPTIONS))
    assert len({base, *asked}) == 8


def test_a_suites_title_is_no_part_of_the_question() -> None:
    suite = load_suite("hayes2024")
    assert question_digest(replace(suite, title="other", name="x"), OPTIONS) == question_digest(
        suite, OPTIONS
    )


def test_the_manifest_is_json_and_repeats_the_flags() -> None:
    made = json.loads(json.dumps(new_manifest(load_suite("quickstart"), OPTIONS).to_json()))
    assert (made["format"], made["memprobe"]) == (1, __version__)
    assert made["flags"]["data"] == ["d.jsonl"]
    assert set(made["flags"]) == set(RunOptions.__dataclass_fields__)
    assert made["suite"]["name"] == "quickstart"


def test_versions_hold_what_a_number_may_depend_on() -> None:
    found = versions()
    assert {"python", "memprobe", "torch", "transformers", "tokenizers", "polars", "numpy"} <= set(found)
    assert found["memprobe"] == __version__


def test_identity_is_text_only() -> None:
    assert all(isinstance(value, str) for value in identity(manifest()).values())


def test_items_are_described_by_digest_and_counts(tmp_path) -> None:
    from memprobe.items import read_items

    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": ""}\n{"text": "two"}\n')
    items = read_items([str(tmp_path / "a.jsonl")], on_bad="skip")
    described = describe_items(items)
    assert (described.n_items, described.n_skipped, described.n_unfit) == (2, 1, 0)
    assert described.digest == items.digest
    assert described.files[0].n_items == 2
    assert "one" not in json.dumps(described.to_json())
