"""`memprobe fetch`, and the run that it prints: with every socket blocked."""

import json
import shlex
from pathlib import Path

import pytest

from memprobe.checkpoints import resolve

ROWS = [{"item_id": f"i{n}", "text": f"a text that is long enough for a probe, number {n}"} for n in range(4)]


@pytest.fixture
def words(cli, tmp_path: Path):
    """Return a runner of a printed command, into a run directory of its own."""

    def run(command: str):
        program, *rest = shlex.split(command)
        assert program == "memprobe"
        return cli(*rest, "--threads", "1", "-o", tmp_path / "offline")

    return run


def test_the_printed_command_runs_without_a_socket(cli, sweep, words, no_sockets) -> None:
    fetched = cli("fetch", "-p", "recall", "-m", "org/tiny@step*", "--steps", "0,20", "-d", sweep.items)
    assert fetched.code == 0, fetched.err
    assert fetched.out == (
        f"memprobe run -p recall -m 'org/tiny@step*' --steps 0,20 -d {sweep.items} --offline\n"
    )
    assert "fetching org/tiny@step0 (1 of 2), 43.4 kB" in fetched.err
    assert "2 checkpoints on this machine, 2 of them fetched now" in fetched.err
    assert sweep.here() == ["step0", "step20"]
    no_sockets()
    answer = words(fetched.out)
    assert answer.code == 0, answer.err
    # What was fetched to stay is not taken away by the run that uses it.
    assert sweep.here() == ["step0", "step20"]


def test_data_of_the_hub_come_too(cli, hub, sweep, words, no_sockets) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    hub.add("org/texts", "main", {"train.jsonl": lines}, kind="datasets")
    answer = cli("fetch", "-p", "recall", "-m", "org/tiny@step0", "-d", "hf:org/texts:train")
    assert answer.code == 0, answer.err
    no_sockets()
    ran = words(answer.out)
    assert ran.code == 0, ran.err


def test_what_is_here_is_not_fetched_again(cli, sweep, hub) -> None:
    ask = ("fetch", "-p", "recall", "-m", "org/tiny@step{0,10}", "-d", sweep.items)
    cli(*ask)
    hub.asked.clear()
    again = cli(*ask, "--json")
    assert hub.downloads() == []
    told = json.loads(again.out)
    assert (told["n_fetched"], told["n_bytes"], told["n_items"]) == (0, 0, 24)
    assert [each["revision"] for each in told["checkpoints"]] == ["step0", "step10"]
    assert all(Path(each["folder"], "model.safetensors").is_file() for each in told["checkpoints"])


def test_a_suite_counts_with_its_run_table(cli, sweep, words, tmp_path) -> None:
    suite = tmp_path / "mine.toml"
    run = f'model = ["org/tiny@step10"]\ndata = ["{sweep.items}"]\n'
    suite.write_text(f'[suite]\nname = "mine"\n[run]\n{run}[[probe]]\nkind = "recall"\n')
    answer = cli("fetch", suite)
    assert answer.out == f"memprobe run {suite} --offline\n"
    assert words(answer.out).code == 0
    assert sweep.here() == ["step10"]


def test_models_alone_may_be_fetched_and_the_command_says_what_is_left_open(cli, sweep) -> None:
    answer = cli("fetch", "-m", "org/tiny@step10")
    assert answer.out == "memprobe run SUITE -m org/tiny@step10 -d FILE --offline\n"
    assert "SUITE and FILE in the command stand for your own" in answer.err
    assert sweep.here() == ["step10"]


def test_a_tokenizer_of_its_own_comes_too(cli, hub, sweep, checkpoints, words, no_sockets) -> None:
    hub.add_folder("org/bare", "main", checkpoints / "step0")
    ask = ("-m", "org/bare", "--tokenizer", "org/tiny@step10", "-d", sweep.items)
    answer = cli("fetch", "-p", "recall", *ask)
    assert answer.code == 0, answer.err
    no_sockets()
    assert words(answer.out).code == 0
    assert sweep.here() == []


def test_a_pattern_that_would_match_more_in_the_cache_is_written_out(cli, hub, sweep, words) -> None:
    cli("fetch", "-m", "org/tiny@step{0,10,20}")
    hub.repos["models/org/tiny"].refs.pop("step10")
    answer = cli("fetch", "-p", "recall", "-m", "org/tiny@step[012]*", "-d", sweep.items)
    assert shlex.split(answer.out)[5] == "org/tiny@{step0,step20}"
    assert words(answer.out).code == 0


def test_what_a_run_brought_for_itself_stays_once_it_is_fetched(cli, sweep, hub) -> None:
    from memprobe.checkpoints import CheckpointCache

    cache = CheckpointCache("a-run", ["org/tiny"], keep=2)
    (sequence,) = resolve(["org/tiny@step10"])
    cache.bring(sequence.checkpoints[0])
    cli("fetch", "-m", "org/tiny@step10")
    cache.leave(sequence.checkpoints[0], done=True)
    assert sweep.here() == ["step10"]


def test_one_that_cannot_be_fetched_does_not_keep_the_others_away(cli, hub, sweep) -> None:
    hub.gone.add(f"{sweep.commits['step10']}/model.safetensors")
    answer = cli("fetch", "-p", "recall", "-m", "org/tiny@step{0,10,20}", "-d", sweep.items)
    assert (answer.code, answer.out) == (4, "")
    assert "the hub lists this file and does not have it" in answer.err
    assert "1 of 3 checkpoints could not be fetched" in answer.err
    assert sweep.here() == ["step0", "step20"]


def test_without_a_network_it_is_refused(cli, hub, sweep, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    answer = cli("fetch", "-m", "org/tiny@step10")
    assert answer.code == 5
    assert "the network is off (--offline or HF_HUB_OFFLINE)" in " ".join(answer.err.split())
    assert hub.asked == []


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ([], "no model was given"),
        (["-p", "recal", "-m", "org/tiny"], "did you mean `recall`?"),
        (["-m", "org/tiny", "--set", "recall.suffix_tokens=3"], "--set was given without a suite"),
        (["-m", "org/tiny@step11"], "did you mean `step10`?"),
        (["-m", "org/none"], "there is no such model on the hub"),
        (["-m", "org/tiny", "-d", "none.jsonl"], "no such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_large_is_fetched(cli, hub, sweep, args, what) -> None:
    answer = cli("fetch", *args)
    assert (answer.code, answer.out) == (2, "")
    assert what in answer.err
    assert hub.downloads() == []
