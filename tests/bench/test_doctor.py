"""What `examine` finds wrong on machines that are made up, each with a way to mend it."""

import json
import os
from collections import namedtuple
from pathlib import Path

import pytest

from memprobe.bench import doctor
from memprobe.bench.doctor import check_invariance, examine
from memprobe.errors import CheckpointError, ItemError
from memprobe.options import RunOptions
from memprobe.scoring.devices import Device

Usage = namedtuple("Usage", "total used free")
CPU = Device("cpu", "", None, None, True)


@pytest.fixture(autouse=True)
def healthy(monkeypatch, tmp_path):
    """A machine without faults, whatever this one is like."""
    for name in list(os.environ):
        if name.startswith(("MEMPROBE_", "HF_", "CUDA_")) or name.endswith("_OFFLINE"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(doctor, "_sees_nvidia", lambda: False)
    monkeypatch.setattr(doctor, "_cores", lambda: 4)
    monkeypatch.setattr(doctor, "_hub_cache", lambda: tmp_path / "no" / "such" / "cache")
    monkeypatch.setattr("memprobe.scoring.devices.devices", lambda: [CPU])
    monkeypatch.setattr("memprobe.scoring.devices.cpu_threads", lambda: 4)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))


def wrong() -> list[str]:
    return [f"{each.what} | {each.fix}" for each in examine().problems]


def test_a_healthy_machine_has_nothing_wrong_and_everything_in_its_place(tmp_path):
    found = examine()
    assert found.problems == ()
    assert {each.name for each in found.packages if not each.extra} >= {"torch", "transformers", "polars"}
    assert "accelerate" in {each.name for each in found.packages if each.extra == "multi-gpu"}
    assert "pytest" not in {each.name for each in found.packages}
    assert (found.devices, found.cores, found.threads) == ((CPU,), 4, 4)
    assert found.hub_cache.path == str(tmp_path / "no" / "such" / "cache")
    assert found.hub_cache.writable
    assert found.here.path == str(Path.cwd())
    document = json.loads(json.dumps(found.as_json()))
    assert document["devices"][0]["name"] == "cpu"
    assert document["problems"] == []


@pytest.mark.parametrize(
    ("build", "hidden", "what"),
    [
        (None, None, "this torch is built for the CPU alone | install the CUDA build"),
        ("12.8", None, "torch, built for CUDA 12.8, cannot use it | update the driver"),
        ("12.8", "-1", "CUDA_VISIBLE_DEVICES hides every GPU | unset it"),
        (None, "", "CUDA_VISIBLE_DEVICES hides every GPU | unset it"),
    ],
)
def test_a_gpu_that_torch_does_not_use_is_said_with_its_reason(build, hidden, what, monkeypatch):
    monkeypatch.setattr(doctor, "_sees_nvidia", lambda: True)
    monkeypatch.setattr("memprobe.scoring.devices.cuda_build", lambda: build)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    (problem,) = wrong()
    assert what in problem


def test_a_gpu_in_use_is_no_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_sees_nvidia", lambda: True)
    gpu = Device("cuda:0", "GPU", 2, 1, True)
    monkeypatch.setattr("memprobe.scoring.devices.devices", lambda: [CPU, gpu])
    assert wrong() == []


@pytest.mark.parametrize(("threads", "n_wrong"), [(4, 0), (5, 1)])
def test_more_threads_than_cores_are_said(threads, n_wrong, monkeypatch):
    monkeypatch.setattr("memprobe.scoring.devices.cpu_threads", lambda: threads)
    found = wrong()
    assert len(found) == n_wrong
    assert all(each.startswith("torch takes 5 threads and this process may use 4 cores") for each in found)


def test_a_full_disk_is_said_for_each_place_with_its_own_bar(monkeypatch):
    # 5 GB are enough for a run, not for models.
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**12, 0, 5 * 10**9))
    (problem,) = wrong()
    assert problem.startswith("the hub cache has 5.0 GB free, less than 10 GB")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**12, 0, 5 * 10**8))
    assert [each.split(" has ")[0] for each in wrong()] == ["the working directory", "the hub cache"]


def test_a_place_that_cannot_be_written_to_is_said(monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert wrong() == [
        "the working directory cannot be written to | name another run directory with -o",
        "the hub cache cannot be written to | set HF_HUB_CACHE to another disk",
    ]


@pytest.mark.parametrize(
    ("versions", "what"),
    [
        ({"torch": "1.13.0"}, "torch is 1.13.0, memprobe needs <3,>=2.8 | pip install -U memprobe-lm"),
        ({"polars": None}, "polars is not installed | pip install memprobe-lm"),
        (
            {"accelerate": "0.1"},
            "accelerate is 0.1, memprobe needs >=1.10 | pip install -U 'memprobe-lm[multi-gpu]'",
        ),
        ({"accelerate": None}, None),
    ],
)
def test_a_package_that_is_missing_or_too_old_is_said_unless_only_an_extra_brings_it(
    versions, what, monkeypatch
):
    genuine = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, genuine(name)))
    assert wrong() == ([] if what is None else [what])


def test_tools_of_developers_are_not_listed(monkeypatch):
    wanted = [
        "polars>=2.0",
        'ruff>=0.14; extra == "dev"',
        'sphinx>=8.2; extra == "docs"',
        'peft; extra == "lora"',
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    assert [each.name for each in doctor._packages()] == ["polars", "peft"]


def test_where_torch_cannot_be_imported_the_rest_is_still_told(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "memprobe.scoring.devices", None)
    found = examine()
    assert (found.devices, found.threads) == ((), None)
    assert found.problems[0].what.startswith("torch cannot be imported")


def test_variables_that_change_what_happens_are_told_and_a_token_is_not(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MEMPROBE_THREADS", "2")
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    assert examine().environment == {"HF_HUB_OFFLINE": "1", "MEMPROBE_THREADS": "2", "HF_TOKEN": "(set)"}
    assert wrong() == []


def test_offline_for_one_library_alone_is_said(monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "true")
    (problem,) = wrong()
    assert problem.startswith(
        "HF_HUB_OFFLINE is not set beside TRANSFORMERS_OFFLINE and HF_DATASETS_OFFLINE:"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert len(wrong()) == 1


# Invariance of a checkpoint


def test_the_last_checkpoint_is_compared_on_texts_that_ship(tiny):
    found = check_invariance(RunOptions(model=(tiny.model,), threads=1))
    assert found.label.endswith("step20")
    assert found.holds
    assert len(found.gaps) == 7
    # Byte by byte, "Rain again." has 11 tokens, the first without a condition; the page is cut to 96.
    scored = {gap.item_id: gap.n_scored for gap in found.gaps}
    assert (scored["word"], scored["page"]) == (10, 95)


def test_the_user_s_items_dtype_and_steps_count(tiny):
    options = RunOptions(model=(tiny.model,), data=(tiny.items,), steps="10", dtype="bfloat16", threads=1)
    found = check_invariance(options)
    assert found.label.endswith("step10")
    assert found.dtype == "bfloat16"
    assert {gap.item_id for gap in found.gaps} <= {f"i{n:02d}" for n in range(24)}


def test_items_without_a_token_to_score_and_a_missing_model_are_errors(tiny, tmp_path):
    items = tmp_path / "one.jsonl"
    items.write_text('{"text": "x"}\n')
    with pytest.raises(ItemError, match="no item has a token to score"):
        check_invariance(RunOptions(model=(tiny.model,), data=(str(items),)))
    with pytest.raises(CheckpointError, match="no model was given"):
        check_invariance(RunOptions())
