"""A checkpoint that passed the checks of its behaviour is not checked again, and nothing else is spared."""

import json

import pytest
import torch

from memprobe.checkpoints.cache import cache_file
from memprobe.errors import CheckpointError
from memprobe.scoring import conduct, passed
from memprobe.scoring.conduct import settle
from memprobe.scoring.load import LoadedModel, LoadOptions, load
from memprobe.scoring.passed import entry_of

FILE = "conduct.json"


@pytest.fixture(autouse=True)
def n_examined(monkeypatch, tmp_path) -> list[int]:
    """Return a list that grows by the longest length of each check; caches begin empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(conduct, "_passed", {})
    examine, calls = conduct._examine, []

    def counted(loaded, longest_tokens):
        calls.append(longest_tokens)
        return examine(loaded, longest_tokens)

    monkeypatch.setattr(conduct, "_examine", counted)
    return calls


def another_run(monkeypatch) -> None:
    monkeypatch.setattr(conduct, "_passed", {})


def ready(model: torch.nn.Module) -> LoadedModel:
    return LoadedModel(model=model, device=torch.device("cpu"))


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama"])
def test_another_run_takes_the_path_without_a_pass(saved, at, n_examined, monkeypatch, name) -> None:
    checkpoint = at(saved(name))
    first = load(checkpoint, LoadOptions(longest_tokens=40))
    another_run(monkeypatch)
    monkeypatch.setattr(conduct, "choose_path", None)
    again = load(checkpoint, LoadOptions(longest_tokens=40))
    assert len(n_examined) == 1
    assert (again.fast, again.vocabulary, again.settled) == (first.fast, first.vocabulary, True)


def test_others_of_the_sequence_are_spared_too(saved, at, n_examined, monkeypatch) -> None:
    load(at(saved("llama")), LoadOptions())
    another_run(monkeypatch)
    load(at(saved("llama")), LoadOptions())
    load(at(saved("llama", 1)), LoadOptions())
    assert len(n_examined) == 1


@pytest.mark.parametrize("change", ["weights", "longest", "dtype", "rules", "version", "threads"])
def test_what_the_outcome_depends_on_is_in_the_name(saved, at, n_examined, monkeypatch, change) -> None:
    load(at(saved("llama")), LoadOptions(longest_tokens=40))
    another_run(monkeypatch)
    if change == "rules":
        monkeypatch.setattr(passed, "RULES", passed.RULES + 1)
    if change == "version":
        monkeypatch.setattr(passed.transformers, "__version__", "0")
    if change == "threads":
        n_threads = torch.get_num_threads()
        monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads + 1)
    longest = 41 if change == "longest" else 40
    dtype = "bfloat16" if change == "dtype" else "float32"
    salt = 1 if change == "weights" else 0
    load(at(saved("llama", salt)), LoadOptions(dtype=dtype, longest_tokens=longest))
    assert len(n_examined) > 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"%s": 1}', '{"%s": [true]}', '{"%s": [1, 97]}', '{"%s": [true, 0]}']
)
def test_a_damaged_cache_is_passed_over(saved, at, n_examined, monkeypatch, content) -> None:
    load(at(saved("llama")), LoadOptions())
    (entry,) = json.loads(cache_file(FILE).read_text())
    cache_file(FILE).write_text(content.replace("%s", entry))
    another_run(monkeypatch)
    assert load(at(saved("llama")), LoadOptions()).settled
    assert len(n_examined) == 2
    assert entry in json.loads(cache_file(FILE).read_text())


def test_a_cache_that_cannot_be_written_costs_nothing_else(saved, at, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert load(at(saved("llama")), LoadOptions()).settled


def test_code_of_others_is_always_checked(build_model, monkeypatch) -> None:
    model = build_model("llama")
    assert entry_of(ready(model), 40, "a digest")
    assert entry_of(ready(model), 40, "") is None
    first = model.model.layers[0]
    first.forward = type(first).forward.__get__(first)
    assert entry_of(ready(model), 40, "a digest") is None
    del first.forward
    monkeypatch.setattr(type(first.mlp), "forward", lambda self, x: x)
    assert entry_of(ready(model), 40, "a digest") is None

    class Own(type(model)):
        pass

    assert entry_of(ready(Own(model.config)), 40, "a digest") is None


def test_what_did_not_pass_for_sure_is_not_kept(build_model, monkeypatch) -> None:
    same = build_model("llama")
    # No output depends on an earlier token: attention adds nothing.
    for layer in same.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    settle(ready(same), weights="untrained")
    assert not cache_file(FILE).exists()
    same = build_model("llama")
    monkeypatch.setattr(conduct, "_compare", lambda *_, same_shape: "moved")
    with pytest.raises(CheckpointError):
        settle(ready(same), weights="refused")
    monkeypatch.setattr(conduct, "_compare", lambda *_, same_shape: "unsure")
    settle(ready(same), weights="unsure")
    assert not cache_file(FILE).exists()


def test_the_oldest_entries_make_room(monkeypatch) -> None:
    monkeypatch.setattr(passed, "_MOST_ENTRIES", 2)
    for name in "abc":
        passed.remember(name, passed.Passed(fast=True, vocabulary=9))
    assert passed.recall("a") is None
    assert passed.recall("c") == passed.Passed(fast=True, vocabulary=9)
