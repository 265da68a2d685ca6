"""Inputs of every sort from seeds: a documented exit code, no traceback, and on success the right number.

One input again: pytest tests/fuzz -m "" -k "items-0017-"
"""

import json
import os
import signal

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.fuzz import damaged, inputs
from tests.fuzz.worlds import MARK, STEPS, Naive, World, check_recall, save_sequence

# Of each kind: how many by default, and how many under the slow mark.
COUNTS = {
    "items": (inputs.items, 90, 400),
    "suites": (inputs.suites, 60, 200),
    "rules": (inputs.rules, 60, 200),
    "models": (damaged.models, 16, 150),
    "runs": (damaged.runs, 40, 250),
    "options": (damaged.options, 60, 300),
}
CASES = [
    pytest.param(
        kind,
        seed,
        id=f"{kind}-{seed:04d}-",
        marks=[pytest.mark.slow] if seed >= fast else [],
    )
    for kind, (_, fast, slow) in COUNTS.items()
    for seed in range(fast + slow)
]
# No input takes as long on any machine; a hang is a failure that says which.
_LONGEST_S = 300
RULES = """
[[rule]]
id = "r"
probe = "recall"
metric = "exact_frac"
where = { step = "last" }
max = 0.9
min_n = 1
"""


def test_there_are_as_many_inputs_as_are_said():
    assert sum(fast for _, fast, _ in COUNTS.values()) >= 300
    assert sum(slow for _, _, slow in COUNTS.values()) >= 1000


@pytest.fixture(scope="module")
def naive(world):
    """The world's models as transformers loads them."""
    return {f"step{step}": Naive(world.main / f"step{step}") for step in STEPS}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    import memprobe

    root = tmp_path_factory.mktemp("fuzz")
    main = save_sequence(root / "main")
    rows = inputs.rows_of(inputs.Draw("world"), Naive(main / "step1"), 8)
    items = root / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "rules.toml").write_text(RULES)
    memprobe.run(probes=["recall"], model=main, data=items, out=root / "run", threads=1)
    return World(root, main, items, root / "run", root / "rules.toml")


@pytest.fixture(scope="module")
def answers(world):
    """What commands answer on the run as it was."""
    known = {}

    def answer(args: list[str]):
        key = tuple(args)
        if key not in known:
            known[key] = call(args)
        return known[key]

    return answer


def call(args: list[str]):
    """Run a command in this process."""
    return CliRunner().invoke(_app(), args)


def _app():
    from memprobe.cli.app import app

    return app


def _too_long(number, frame):
    raise TimeoutError(f"longer than {_LONGEST_S} s")


@pytest.fixture
def alarm():
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_an_input_gets_a_documented_answer(
    kind, seed, world, naive, answers, tmp_path, monkeypatch, capfd, alarm
):
    for name in [each for each in os.environ if each.startswith("MEMPROBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MEMPROBE_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    given = COUNTS[kind][0](seed, tmp_path, world, naive)
    for name, value in given.environment.items():
        monkeypatch.setenv(name, value)
    capfd.readouterr()
    result = call(given.args)
    told = result.stdout + result.stderr + "".join(capfd.readouterr())
    about = f"{kind} {seed} ({given.says}): exit code {result.exit_code}\n{given.args}\n{told[-3000:]}"
    assert result.exception is None or isinstance(result.exception, SystemExit), about
    assert result.exit_code in inputs.DOCUMENTED & given.codes, about
    assert "Traceback" not in told, about
    assert "panicked" not in told, about
    assert "bug in memprobe" not in told, about
    if result.exit_code in (2, 3, 4, 5):
        assert told.strip(), about
    if given.secret:
        assert MARK not in told, about
    if kind == "runs":
        _check_damaged(given, result, world, answers, about)
    elif given.run is not None and given.rows is not None and result.exit_code in (0, 4):
        _check_numbers(given, naive, about)


def _check_numbers(given: inputs.Input, naive: dict[str, Naive], about: str) -> None:
    table = pl.read_parquet(given.run / "tables" / "recall.parquet")
    scored = set(table["revision"])
    folders = {name: each for name, each in given.revisions.items() if name in scored}
    for folder in folders.values():
        # Junk that memprobe passes over, and that ends transformers where PEFT is installed.
        (folder / "adapter_config.json").unlink(missing_ok=True)
    check_recall(given.run, given.rows, {name: Naive(each) for name, each in folders.items()} or naive)
    if given.whole:
        assert set(table["item_id"]) == {row["item_id"] for row in given.rows}, about


def _check_damaged(given: inputs.Input, result, world: World, answers, about: str) -> None:
    """Check that a success says what the whole run said."""
    if given.run is not None:
        if result.exit_code == 0:
            for name in ("summary.parquet", "tables/recall.parquet"):
                assert (given.run / name).read_bytes() == (world.run / name).read_bytes(), about
        return
    if given.args[0] in ("status", "worker", "report"):
        return
    whole = answers([str(world.run) if each.endswith("/run") else each for each in given.args])
    if result.exit_code in (0, 1):
        assert result.exit_code == whole.exit_code, about
        assert _without_path(result.stdout) == _without_path(whole.stdout), about


def _without_path(text: str) -> str:
    """Return what was said without the lines that name a folder."""
    named = ('"run"', '"new"', '"base"', '"/')
    return "\n".join(line for line in text.splitlines() if not any(each in line for each in named))
