"""Stored numbers are the numbers that were scored: altered and foreign files give no other number."""

import random
import shutil
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import InvalidRunError
from memprobe.pipeline.again import measure_again
from memprobe.pipeline.listener import NullListener
from memprobe.tables import checked_parquet
from memprobe.tables.store import RunStore

RULES = '[[rule]]\nid = "x"\nprobe = "recall"\nmetric = "exact_frac"\nmax = 0.9\n'


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def ask(tiny, copy) -> tuple[object, ...]:
    return ("run", "quickstart", *tiny.ask, "-o", copy)


def flipped(file: Path, rng: random.Random) -> None:
    """Turn one bit of a file, anywhere."""
    content = bytearray(file.read_bytes())
    place = rng.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    file.write_bytes(content)


@pytest.mark.parametrize("n_bits", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_of_many_single_bits_none_gives_another_number(n_bits, copy, monkeypatch) -> None:
    store, rng = RunStore(copy), random.Random(n_bits)
    units = sorted(copy.glob("units/*.parquet"))
    files = [*units, *sorted(copy.glob("tables/*.parquet")), copy / "summary.parquet"]
    store.write_manifest(store.read_manifest().changed(state="scoring"))
    for number in range(n_bits):
        file = files[number % len(files)]
        whole = file.read_bytes()
        flipped(file, rng)
        monkeypatch.setattr(checked_parquet, "_SEEN", {})
        looks = [lambda: measure_again(store)]
        if file not in units:
            looks = [lambda: store.read_table(file.stem), lambda: store.scan_table(file.stem)]  # noqa: B023
        for look in looks:
            with pytest.raises(InvalidRunError, match="cannot be used: "):
                look()
        file.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_single_bits_seen_from_the_command_line(seed, copy, cli, ask, tables_of, tmp_path, capfd) -> None:
    """Whatever is altered, each command refuses or tells the same; the same `run` mends it."""
    rng, tables = random.Random(seed), tables_of(copy)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    commands = {
        "gate": ("gate", copy, "--rules", rules, "--format", "json"),
        "summary": ("summary", copy, "--json"),
        "export": ("export", copy, "--table", "recall", "--to", "csv"),
        "compare": ("compare", copy, copy, "--json"),
    }
    right = {name: cli(*command).out for name, command in commands.items()}
    kinds = ("units/*.parquet", "tables/*.parquet", "summary.parquet", "manifest.json")
    file = rng.choice(sorted(copy.glob(kinds[seed % 4])))
    whole = file.read_bytes()
    flipped(file, rng)
    for name, command in commands.items():
        answer = cli(*command)
        assert (answer.code, answer.out) == (0, right[name]) or answer.code == 3, (name, answer.err)
    if file.name == "manifest.json":
        file.write_bytes(whole)
    else:
        answer = cli(*ask)
        assert answer.code == 0, answer.err
    assert tables_of(copy) == tables
    assert "panicked" not in capfd.readouterr().err


def test_a_bad_summary_is_3_for_whoever_reads_it_and_the_same_run_mends_it(
    copy, cli, ask, tmp_path, tables_of, units_of, capfd
) -> None:
    tables, units = tables_of(copy), units_of(copy)
    (tmp_path / "rules.toml").write_text(RULES)
    flipped(copy / "summary.parquet", random.Random(3))
    for command in (
        ("gate", copy, "--rules", tmp_path / "rules.toml"),
        ("summary", copy),
        ("export", copy, "--to", "csv"),
        ("report", copy),
        ("compare", copy, copy),
    ):
        answer = cli(*command)
        assert (answer.code, answer.out) == (3, ""), command
        assert "the table `summary` cannot be used: its checksum is wrong" in answer.err
        assert "run the same `memprobe run` again: tables are rebuilt from the units" in answer.err
    assert "panicked" not in capfd.readouterr().err
    assert cli(*ask).code == 0
    assert (tables_of(copy), units_of(copy)) == (tables, units)


def test_a_summary_that_somebody_edited_is_not_judged(copy, cli, tmp_path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    rows = pl.read_parquet(copy / "summary.parquet")
    rows.with_columns(estimate=pl.lit(0.0)).write_parquet(copy / "summary.parquet")
    answer = cli("gate", copy, "--rules", tmp_path / "rules.toml")
    assert answer.code == 3
    assert "it carries no checksum" in answer.err


def test_a_summary_of_another_run_is_not_judged(copy, run, cli, tmp_path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    other = run(probes=["recall"], out=tmp_path / "other")
    shutil.copy(other.path / "summary.parquet", copy / "summary.parquet")
    answer = cli("gate", copy, "--rules", tmp_path / "rules.toml")
    assert answer.code == 3
    assert "it is another one than this run wrote" in answer.err


def test_a_manifest_that_rotted_is_not_believed(copy, cli, tmp_path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    file = copy / "manifest.json"
    file.write_text(file.read_text().replace('"failures": []', '"failures": [ ]').replace("step20", "step21"))
    answer = cli("gate", copy, "--rules", tmp_path / "rules.toml")
    assert answer.code == 3
    assert "the manifest cannot be used: its checksum is wrong" in answer.err


# Units that are not what was asked


def contexts(run: Path) -> list[str]:
    return [each["context"] for each in memprobe.open_run(run).manifest["checkpoints"]]


def mended(copy, cli, ask, reason: str, name: str, finished, tables_of) -> None:
    answer = cli(*ask)
    assert answer.code == 0, answer.err
    assert f"note: {name} cannot be used: " in answer.err
    assert reason in answer.err
    assert f"it is now {name}.broken and is scored again" in answer.err
    assert tables_of(copy) == tables_of(finished)


def test_a_unit_of_another_checkpoint_is_set_aside_and_scored_again(
    copy, cli, ask, finished, tables_of
) -> None:
    first, _, last = (next(copy.glob(f"units/{each}-*.parquet")) for each in contexts(copy))
    shutil.copy(first, last)
    mended(copy, cli, ask, f"it is the unit {first.stem} under another name", last.name, finished, tables_of)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.head(rows.height - 1), "it holds"),
        (lambda rows: rows.drop("rank"), "its columns are not those of a unit: rank"),
        (lambda rows: rows.with_columns(stop=pl.col("stop") + 1), "spans that were asked for are not in it"),
        (lambda rows: rows.with_columns(n_hits=pl.lit(-1, pl.Int32())), "n_hits is below 0"),
    ],
    ids=["a row is missing", "a column is missing", "other spans", "an impossible value"],
)
def test_a_unit_that_is_readable_and_wrong_is_set_aside_and_scored_again(
    copy, cli, ask, finished, tables_of, change, reason
) -> None:
    context = contexts(copy)[1]
    file = next(copy.glob(f"units/{context}-*.parquet"))
    found = checked_parquet.read(file)
    about = {name: found.about[name] for name in ("context", "unit", "model", "revision", "step")}
    file.write_bytes(checked_parquet.to_bytes(change(found.frame), about)[0])
    mended(copy, cli, ask, reason, file.name, finished, tables_of)


def test_a_run_of_an_earlier_memprobe_is_scored_again_and_says_why(
    copy, cli, ask, finished, tables_of
) -> None:
    for file in (*copy.glob("units/*.parquet"), *copy.glob("tables/*.parquet"), copy / "summary.parquet"):
        pl.read_parquet(file).write_parquet(file)
    answer = cli("summary", copy)
    assert answer.code == 3
    assert "it carries no checksum: an earlier memprobe or another program wrote it" in answer.err
    answer = cli(*ask)
    assert answer.code == 0, answer.err
    assert answer.err.count("it carries no checksum") == 3
    assert tables_of(copy) == tables_of(finished)


def test_two_runs_write_the_same_bytes(finished, run, tiny, tmp_path) -> None:
    again = run("quickstart", steps=None, out=tmp_path / "again").path
    for name in ("summary.parquet", "tables/recall.parquet", "tables/items.parquet"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()
    units = [sorted((each / "units").glob("*.parquet")) for each in (again, finished)]
    assert [each.read_bytes() for each in units[0]] == [each.read_bytes() for each in units[1]]


# A process that was stopped, and another that took over


def test_a_process_that_lost_the_lock_while_stopped_leaves_the_tables_to_the_other(
    copy, tiny, monkeypatch, tables_of, finished
) -> None:
    from memprobe.pipeline import finish

    lost = []

    def slowly(measured, store):
        if not lost:
            # Stopped for minutes: another process has taken the lock, and holds it no more.
            lost.append(True)
            (copy / "tables.lock").unlink()
        return write(measured, store)

    write = finish.write_results
    monkeypatch.setattr(finish, "write_results", slowly)
    before = {file: file.stat().st_mtime_ns for file in copy.glob("tables/recall.parquet")}
    told = []

    class Listener(NullListener):
        def note(self, text):
            told.append((text, {file: file.stat().st_mtime_ns for file in before} == before))

    memprobe.run("quickstart", model=tiny.model, data=tiny.items, threads=1, out=copy, listener=Listener())
    assert ("this process was stopped, and another took over the tables: looking again", True) in told
    assert tables_of(copy) == tables_of(finished)
    assert not (copy / "tables.lock").exists()
