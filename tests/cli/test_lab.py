"""`memprobe demo` as a newcomer meets it, and `memprobe lab train` with good and bad input."""

import json
import os
import re
from pathlib import Path

import polars as pl
import pytest

from memprobe.cli import lab
from memprobe.probes.discovery import discover

FINISHED_DEMO = os.environ.get("MEMPROBE_DEMO")

# In front of a demo: whoever opens a connection fails.
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def truth_rows(out: str) -> dict[int, list[tuple[int, float]]]:
    """Return the table of planted truth: exposures to (trained on so far, share recalled) per step."""
    block = out.split("Planted: ")[1].split("Measured: ", maxsplit=1)[0]
    rows = {}
    for line in block.splitlines():
        if match := re.match(r"\s+(\d+)  (.*→.*)$", line):
            cells = re.findall(r"(\d+) → ([\d.]+)", match[2])
            rows[int(match[1])] = [(int(seen), float(share)) for seen, share in cells]
    return rows


def run_demo(forked, run, seed: int) -> str:
    """Run the demo in a process of its own; returns its stdout."""
    # On cores that are shared, two threads wait for each other longer than one works.
    asked = ("demo", "-o", run, "--seed", seed, "--threads", 1)
    answer = forked(*asked, prelude=NO_NETWORK).answer(timeout_s=180)
    assert answer.code == 0, answer.err
    return answer.out


def check_demo(out: str, run) -> None:
    """Check what the demo promises."""
    rows = truth_rows(out)
    assert list(rows) == [0, 1, 2, 4, 8, 16, 32, 64, 128]
    # By the last checkpoint each code has been trained on as often as planted; at step 0 never.
    assert {exposures: cells[-1][0] for exposures, cells in rows.items()} == {each: each for each in rows}
    assert {cells[0] for cells in rows.values()} == {(0, 0.0)}
    assert rows[0][-1][1] == 0
    assert rows[128][-1][1] >= 0.75
    # Paths are never broken; the one in the last lines is pytest's.
    assert max(len(line) for line in out.splitlines() if str(run) not in line) <= 80
    # The table says what the run measured.
    last = pl.read_parquet(run / "tables" / "recall.parquet").filter(pl.col("step") == pl.col("step").max())
    for exposures, cells in rows.items():
        exact = last.filter(pl.col("exposures") == exposures)["exact"]
        assert cells[-1][1] == pytest.approx(exact.mean(), abs=0.005)


def check_order_and_tasks(run) -> None:
    """Check what only trained ledgers and only newly trained tasks can show."""
    sort = pl.read_parquet(run / "tables" / "sort.parquet").filter(step=490, distance_bin=0)
    was_seen = pl.col("item_id").str.starts_with("ledger")
    seen, unseen = (sort.filter(part)["delta"] for part in (was_seen, ~was_seen))
    assert (len(seen), len(unseen)) == (16, 16)
    assert seen.mean() > unseen.mean()
    assert (seen > 0).mean() > 0.5
    scores = pl.read_parquet(run / "tables" / "stability.parquet")
    score = {(row["eval_set"], row["step"]): row["score"] for row in scores.iter_rows(named=True)}
    # Each task is learned in its phase, and of the first some is gone when the second has ended.
    assert score["task-1", 70] < score["task-1", 280] > score["task-1", 490]
    assert score["task-2", 280] < score["task-2", 490] > score["task-1", 490]


@pytest.fixture
def demo(forked, tmp_path):
    """Return the stdout and the folder of a finished demo.

    CI runs the demo from the installed wheel, and names the folder of both in MEMPROBE_DEMO.
    """
    if FINISHED_DEMO:
        folder = Path(FINISHED_DEMO)
        return (folder / "out.txt").read_text(encoding="utf-8"), folder / "run"
    return run_demo(forked, tmp_path / "demo", seed=0), tmp_path / "demo"


@pytest.mark.slow
def test_the_demo_shows_planted_truth_beside_measured_value_without_a_network(demo, cli):
    out, run = demo
    check_demo(out, run)
    assert out.rstrip().splitlines()[-1] == "  memprobe run quickstart -m MODEL -d ITEMS.jsonl"
    assert {"manifest.json", "summary.parquet", "lab"} <= {each.name for each in run.iterdir()}
    assert (run / "lab" / "truth.parquet").is_file()
    # Every probe that ships is asked, and has a section in the report.
    probes = list(discover())
    assert set(pl.read_parquet(run / "summary.parquet")["probe"]) == set(probes)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert [name for name in probes if f'id="probe-{name}"' not in page] == []
    check_order_and_tasks(run)
    # Again: nothing is trained, nothing scored, and the same is shown.
    before = {file: file.stat().st_mtime_ns for file in (*run.glob("lab/**/*"), *run.glob("units/*"))}
    again = cli("demo", "-o", run)
    assert (again.code, again.out) == (0, out)
    assert {file: file.stat().st_mtime_ns for file in (*run.glob("lab/**/*"), *run.glob("units/*"))} == before
    document = json.loads(cli("demo", "-o", run, "--json", "-q").out)
    assert document["state"] == "done"
    other = cli("demo", "-o", run, "--seed", "1")
    assert other.code == 2
    assert "the folder holds another lab" in other.err
    assert "seed: 0 there, 1 asked for" in other.err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_keeps_its_promises_for_other_seeds(seed, forked, tmp_path):
    check_demo(run_demo(forked, tmp_path / "demo", seed), tmp_path / "demo")


def test_a_seed_below_zero_is_refused_before_any_work(cli, tmp_path):
    answer = cli("demo", "-o", tmp_path / "demo", "--seed", "-1")
    assert answer.code == 2
    assert "--seed is -1" in answer.err
    assert not (tmp_path / "demo").exists()


def test_fresh_removes_a_demo_and_spares_everything_else(tmp_path):
    for name in (
        "manifest.json",
        "lab/lab.json",
        "lab/main/step0/config.json",
        "units/u.parquet",
        "notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"seconds": 1, "asked": {}, "counts": {}}')
    lab._start_over(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_the_demo_asks_the_probes_that_have_what_they_need_in_some_item(make, tmp_path):
    plain = {"item_id": "a", "text": "one"}
    rows = [plain, {"item_id": "b", "text": "two", "foil": "three", "first_step": 4}]
    few = set(lab._answerable(make.items(tmp_path / "few.jsonl", [plain])))
    more = set(lab._answerable(make.items(tmp_path / "more.jsonl", rows)))
    assert few >= {"recall", "extraction", "forecast"}
    assert not few & {"recognition", "profile", "stability"}
    assert more >= few | {"recognition", "profile"}
    assert "stability" not in more
    task = plain | {"group": "g", "task_end_step": 5}
    assert "stability" in lab._answerable(make.items(tmp_path / "task.jsonl", [task]))


def test_fresh_refuses_a_folder_that_is_no_demo(tmp_path):
    from memprobe.errors import InputError

    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "precious.txt").write_text("mine")
    lab._start_over(tmp_path)
    assert (tmp_path / "lab" / "precious.txt").exists()
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="manifest"):
        lab._start_over(tmp_path)


# lab train


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "book.txt"
    words = ("harbour", "lantern", "meadow", "copper", "winter", "saddle", "orchard", "marble", "thistle")
    file.write_text(" ".join(f"{words[i % 9]} {words[i * i % 7]} {i}." for i in range(900)))
    return file


@pytest.fixture
def canaries(tmp_path):
    file = tmp_path / "canaries.jsonl"
    rows = [{"prefix": "The pin is ", "suffix": f"{n}{n + 1}77", "exposures": n} for n in (0, 1, 4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


SMALL = ("--hidden", "16", "--layers", "1", "--context", "32", "--updates", "32", "--checkpoints", "2")


def test_a_lab_of_ones_own_is_trained_and_can_be_audited_as_told(text, canaries, cli, tmp_path):
    out = tmp_path / "lab"
    asked = ("lab", "train", "--text", text, "--canaries", canaries, "-o", out, *SMALL)
    answer = cli(*asked, "--leave-out", "1", "--threads", "1")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[:4] == [
        f"main: {out / 'main'}",
        f"twin: {out / 'twin'}",
        f"items: {out / 'items.jsonl'}",
        f"truth: {out / 'truth.parquet'}",
    ]
    assert sorted(each.name for each in (out / "main").glob("step*")) == ["step0", "step16", "step32"]
    following = next(line for line in answer.out.splitlines() if line.startswith("next: "))
    words = following.removeprefix("next: memprobe ").split()
    assert cli(*words, "--dry-run").code == 0
    again = cli(*asked, "--leave-out", "1", "--json")
    document = json.loads(again.out)
    assert (document["main"], document["twin"]) == (str(out / "main"), str(out / "twin"))
    other = cli(*asked)
    assert other.code == 2
    assert "leave_out: 1 there, 0 asked for" in other.err


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"prefix": "a ", "suffix": "b"}', "`exposures` is missing"),
        ('{"prefix": "a ", "sufix": "b", "exposures": 1}', "`suffix` is missing, did you mean `sufix`?"),
        ('{"prefix": "a ", "suffix": "", "exposures": 1}', "`suffix` is empty"),
        ('{"prefix": "a ", "suffix": "b", "exposures": -1}', "`exposures` is -1"),
        ('{"prefix": "a ", "suffix": "b", "exposures": 1.5}', "`exposures` is 1.5"),
        ("{prefix}", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"prefix": "harbour harbour ", "suffix": "0", "exposures": 1}', "also occurs in book.txt"),
    ],
)
def test_a_bad_canary_is_named_by_its_line(row, told, text, canaries, cli, tmp_path):
    with canaries.open("a") as file:
        file.write(row + "\n")
    answer = cli("lab", "train", "--text", text, "--canaries", canaries, "-o", tmp_path / "lab", *SMALL)
    assert answer.code == 2
    assert told in answer.err
    assert f"{canaries}, line 4" in answer.err
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--text", "nowhere.txt"], "cannot read the text: No such file or directory"),
        (["--text", "."], "cannot read the text: Is a directory"),
        (["--text", "TEXT", "--canaries", "nowhere.jsonl"], "cannot read the canaries: No such file"),
        (["--text", "TEXT", "--updates", "0"], "updates is 0"),
        (["--text", "TEXT", "--hidden", "17"], "hidden 17 cannot be cut into 4 heads"),
        (["--text", "TEXT", "--updates", "3", "--checkpoints", "4"], "4 checkpoints asked for in 3 updates"),
        (["--text", "TEXT", "--leave-out", "-1"], "leave_out is -1"),
        (["--text", "TEXT", "--seed", "-1"], "seed is -1"),
        (["--text", "TEXT", "--sort-questions", "-1"], "sort_questions is -1"),
        (["--text", "TEXT", "--sort-questions", "600"], "sort questions take up to 256"),
        (["--text", "TEXT", "--sort-questions", "9", "--context", "256"], "9 sort questions in 560 updates"),
    ],
)
def test_a_lab_that_cannot_be_says_why_and_leaves_nothing(args, told, text, cli, tmp_path):
    args = [str(text) if arg == "TEXT" else arg for arg in args]
    answer = cli("lab", "train", "-o", tmp_path / "lab", *args)
    assert answer.code == 2
    assert told in answer.err
    assert not (tmp_path / "lab").exists()
