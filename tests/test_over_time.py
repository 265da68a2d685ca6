"""Steps that hold the same weights: a probe over time refuses them by name, others are told."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from memprobe.errors import CheckpointError
from memprobe.probes import discovery, recall
from memprobe.probes.contract import OverTime, SequenceResult, no_estimates


@pytest.fixture
def twice(tiny, tmp_path) -> str:
    """A sequence of steps 0, 10, 20, 30, 40 in which 10 and 30, and 20 and 40, are the same."""
    folder = Path(shutil.copytree(tiny.model, tmp_path / "twice" / "main"))
    shutil.copytree(folder / "step10", folder / "step30")
    shutil.copytree(folder / "step20", folder / "step40")
    return str(folder)


@pytest.fixture
def _recall_over_time(monkeypatch) -> None:
    silent = OverTime((), lambda *_: SequenceResult({}, no_estimates()), lambda *_: [])
    monkeypatch.setattr(recall, "PROBE", replace(recall.PROBE, over_time=silent))
    for each in (discovery.built_in, discovery._all):
        each.cache_clear()
    yield
    monkeypatch.undo()
    for each in (discovery.built_in, discovery._all):
        each.cache_clear()


@pytest.mark.usefixtures("_recall_over_time")
def test_a_run_over_time_names_all_steps_with_the_same_weights(run, twice, tmp_path) -> None:
    with pytest.raises(CheckpointError) as caught:
        run(probes=["recall", "extraction"], model=twice, steps=None)
    assert [problem.what for problem in caught.value.problems] == [
        "step10 (step 10) and step30 (step 30) hold the same weights, "
        "which recall would mistake for perfect retention",
        "step20 (step 20) and step40 (step 40) hold the same weights, "
        "which recall would mistake for perfect retention",
    ]
    assert {problem.fix for problem in caught.value.problems} == {"leave one out with --steps"}
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_recall_over_time")
def test_the_fix_it_names_works(run, twice) -> None:
    done = run(probes=["recall"], model=twice, steps="0..20")
    assert done.summary["step"].unique().sort().to_list() == [0, 10, 20]


@pytest.mark.usefixtures("_recall_over_time")
def test_other_probes_beside_it_go_on_alone(run, twice) -> None:
    assert run(probes=["extraction"], model=twice, steps="20,40").failures == []
