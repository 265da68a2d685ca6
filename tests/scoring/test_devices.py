"""`--device auto` in a process that a launcher started: one GPU each."""

import pytest
import torch

from memprobe.scoring.load import resolve_device

GIB = 2**30


@pytest.fixture
def gpus(monkeypatch):
    """Return a maker of machines with so many GPUs, each with 80 GiB free."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("SLURM_LOCALID", raising=False)

    def make(n):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: ((80 if gpu < n else 0) * GIB, 80 * GIB))

    return make


@pytest.mark.parametrize(
    ("n", "variable", "rank", "device"),
    [
        (0, "LOCAL_RANK", "1", "cpu"),
        (4, None, None, "cuda:0"),
        (4, "LOCAL_RANK", "3", "cuda:3"),
        (4, "SLURM_LOCALID", "2", "cuda:2"),
        pytest.param(1, "SLURM_LOCALID", "2", "cuda:0", id="slurm-shows-each-task-its-own-gpu"),
        pytest.param(4, "LOCAL_RANK", "5", "cuda:1", id="more-processes-than-gpus"),
        pytest.param(4, "LOCAL_RANK", "", "cuda:0", id="empty"),
    ],
)
def test_auto_is_the_gpu_of_this_process(n, variable, rank, device, gpus, monkeypatch):
    gpus(n)
    if variable is not None:
        monkeypatch.setenv(variable, rank)
    assert resolve_device("auto") == device


def test_torchrun_goes_before_slurm_and_a_named_device_before_both(gpus, monkeypatch):
    gpus(4)
    monkeypatch.setenv("SLURM_LOCALID", "1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert resolve_device("auto") == "cuda:2"
    assert resolve_device("cuda:3") == "cuda:3"
    assert resolve_device("cpu") == "cpu"


def test_a_model_that_does_not_fit_is_spread(gpus, monkeypatch):
    gpus(4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert resolve_device("auto", n_bytes=100 * GIB) == "auto"
