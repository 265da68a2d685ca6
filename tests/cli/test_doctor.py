"""`memprobe doctor` as a user meets it: what is told, streams, exit codes."""

import json
import shutil

import pytest

from memprobe.errors import Problem


def test_a_machine_is_told_within_80_columns_and_the_code_is_0(cli, monkeypatch):
    monkeypatch.setattr("memprobe.bench.doctor._hub_cache", lambda: __import__("pathlib").Path("/cache"))
    answer = cli("doctor")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    for word in ("memprobe ", "Python ", "torch ", "device: cpu", "cores", "disk: ", "hub cache: /cache"):
        assert word in answer.out
    assert max(map(len, answer.out.splitlines())) < 80


def test_json_holds_the_same(cli):
    document = json.loads(cli("doctor", "--json").out)
    assert document["schema_version"] == 1
    assert document["devices"][0]["name"] == "cpu"
    assert {"packages", "cores", "threads", "here", "hub_cache", "environment", "problems"} <= set(document)


def test_what_is_wrong_is_told_with_its_fix_and_the_code_is_still_0(cli, monkeypatch):
    monkeypatch.setattr(
        "memprobe.bench.doctor._disk_problems", lambda *_: [Problem("the disk is full", "/x", "make room")]
    )
    answer = cli("doctor")
    assert answer.code == 0
    lines = answer.out.splitlines()
    at = lines.index("wrong: the disk is full")
    assert lines[at + 1 : at + 3] == ["  where: /x", "  fix:   make room"]
    assert lines[-1].endswith("to fix")
    assert len(json.loads(cli("doctor", "--json").out)["problems"]) == int(lines[-1].split()[0])


def test_a_model_that_scores_alike_alone_and_in_a_batch_ends_with_0(cli, tiny):
    answer = cli("doctor", "--invariance", "-m", tiny.model, "--threads", "1")
    assert answer.code == 0, answer.err
    assert "float32 on cpu, fast path: largest gap " in answer.out
    assert "0 greedy choices of " in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    document = json.loads(cli("doctor", "--invariance", "-m", tiny.model, "--threads", "1", "--json").out)
    assert document["holds"] is True
    assert document["gap_nats"] == max(gap["gap_nats"] for gap in document["gaps"])


def test_a_model_that_reads_its_padding_ends_with_3_and_says_so(cli, tiny, monkeypatch):
    """GPT-NeoX made to see every position: what its padding holds changes what it says."""
    from memprobe.scoring import forward

    genuine = forward._padded

    def noisy(batch, device):
        ids, mask = genuine(batch, device)
        # As if the padding stood on the left: real tokens come after it.
        return ids.roll(1, dims=1) if len(batch) > 1 else ids, mask

    monkeypatch.setattr(forward, "_padded", noisy)
    answer = cli("doctor", "--invariance", "-m", tiny.model, "--threads", "1")
    assert answer.code == 3
    assert "fast path: largest gap" in answer.out
    assert "nats per token in float32, more than 0.0001" in answer.err
    assert "step20" in answer.err
    assert "Traceback" not in answer.err
    answer = cli("doctor", "--invariance", "-m", tiny.model, "--threads", "1", "--json")
    assert (answer.code, json.loads(answer.out)["holds"]) == (3, False)


@pytest.mark.parametrize("args", [["-m", "nowhere"], []])
def test_a_model_that_is_not_there_ends_with_2_and_an_empty_stdout(args, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answer = cli("doctor", "--invariance", "--offline", "--json", *args)
    assert answer.code in (2, 5)
    assert answer.out == ""
    assert "-m" in answer.err or "nowhere" in answer.err


def test_a_damaged_checkpoint_is_one_clear_error(cli, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "broken")
    (folder / "step20" / "model.safetensors").write_bytes(b"x" * 50)
    answer = cli("doctor", "--invariance", "-m", folder)
    assert answer.code == 2
    assert "step20" in answer.err


def test_a_model_without_invariance_is_told_that_it_matters_not(cli, monkeypatch):
    """It is no error: MEMPROBE_MODEL may be set for other commands."""
    monkeypatch.setenv("MEMPROBE_MODEL", "somewhere")
    answer = cli("doctor")
    assert answer.code == 0
    assert answer.err == "note: -m and -d have an effect only with --invariance\n"
