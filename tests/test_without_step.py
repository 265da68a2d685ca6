"""A model whose name has no step: its step is null in every table, message, comparison and rule."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import memprobe
from memprobe.errors import ItemError, RunsDifferError


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory) -> SimpleNamespace:
    """Return runs of a sequence, of its last checkpoint without a step, and of two such models at once."""
    place = tmp_path_factory.mktemp("finished")
    model = shutil.copytree(Path(tiny.model) / "step20", place / "final")
    for file in Path(tiny.model).glob("*.json"):
        shutil.copy(file, model)
    twin = shutil.copytree(model, place / "twin")

    def asked(out: str, *models):
        return memprobe.run(
            probes=["recall"],
            model=[str(each) for each in models],
            data=str(tiny.items),
            threads=1,
            out=place / out,
        ).path

    return SimpleNamespace(
        place=place,
        model=model,
        alone=asked("alone", model),
        sequence=asked("sequence", tiny.model),
        both=asked("both", model, twin),
        mixed=asked("mixed", tiny.model, model),
        first=asked("first", Path(tiny.model) / "step0"),
    )


def test_the_step_is_null_in_tables_units_and_manifest(runs) -> None:
    run = memprobe.open_run(runs.alone)
    assert [each["step"] for each in run.manifest["checkpoints"]] == [None]
    for name in ("summary", "recall"):
        table = run.table(name)
        assert table.schema["step"] == pl.Int64
        assert table["step"].null_count() == table.height > 0
        assert table["revision"].unique().to_list() == ["final"]
    for unit in (runs.alone / "units").glob("*.parquet"):
        assert pl.read_parquet_metadata(unit)["step"] == "null"


def test_numbers_are_those_of_the_same_checkpoint_with_a_step(runs) -> None:
    alone = memprobe.open_run(runs.alone).summary
    last = memprobe.open_run(runs.sequence).summary.filter(pl.col("step") == 20)
    columns = ("metric", "group", "condition", "estimate", "ci_low", "ci_high", "n_items")
    assert alone.select(columns).equals(last.select(columns))


def test_each_of_several_models_has_its_name_and_no_step(runs) -> None:
    summary = memprobe.open_run(runs.both).summary
    assert summary.select("model", "step").unique(maintain_order=True).rows() == [
        ("final", None),
        ("twin", None),
    ]


@pytest.mark.parametrize("command", ["status", "summary"])
def test_the_terminal_says_no_step(runs, cli, command: str) -> None:
    shown = cli(command, runs.alone)
    assert shown.code == 0
    assert "no step" in shown.out
    assert "step 0" not in shown.out


def test_a_run_of_both_kinds_shows_both(runs, cli) -> None:
    shown = cli("summary", runs.mixed).out
    assert "main: 3 checkpoints, step 0 to 20; final: no step" in shown
    assert "recall of final" in shown
    assert cli("report", runs.mixed, "-o", runs.place / "mixed.html").code == 0
    assert cli("plot", runs.alone, "--kind", "recall", "-o", runs.place / "alone.svg").code == 0


def test_an_export_has_an_empty_step_and_a_table_a_heading(runs, cli) -> None:
    csv = cli("export", runs.alone, "--to", "csv").out.splitlines()
    assert csv[1].startswith("final,final,,recall,")
    assert "| no step |" in cli("export", runs.alone, "--to", "markdown").out
    mixed = cli("export", runs.mixed, "--to", "markdown").out
    assert "final, no step" in mixed
    assert "main, step 20" in mixed


@pytest.mark.parametrize(("base", "new"), [("sequence", "alone"), ("alone", "sequence"), ("first", "alone")])
def test_a_model_without_a_step_is_not_compared_with_steps(runs, base: str, new: str, cli) -> None:
    with pytest.raises(RunsDifferError, match="only as the last one: --steps last"):
        memprobe.compare(getattr(runs, base), getattr(runs, new))
    assert cli("compare", getattr(runs, base), getattr(runs, new)).code == 3


@pytest.mark.parametrize(
    ("base", "new", "steps"), [("sequence", "alone", (20, None)), ("alone", "sequence", (None, 20))]
)
def test_it_is_compared_with_the_last_where_that_is_asked_for(runs, base, new, steps) -> None:
    found = memprobe.compare(getattr(runs, base), getattr(runs, new), steps="last")
    assert [(each.step_base, each.step) for each in found.checkpoints] == [steps]
    # The same weights: every difference is 0.
    assert found.compared.height > 0
    assert set(found.compared["difference"]) == {0.0}


def test_two_models_without_a_step_are_compared(runs) -> None:
    found = memprobe.compare(runs.alone, runs.both)
    assert [(each.model_new, each.step_base, each.step) for each in found.checkpoints] == [
        ("final", None, None)
    ]
    assert set(found.compared["difference"]) == {0.0}


def test_the_last_of_a_sequence_is_compared_with_the_same_step(runs) -> None:
    found = memprobe.compare(runs.sequence, runs.sequence, steps="last")
    assert [(each.step_base, each.step) for each in found.checkpoints] == [(20, 20)]


def _rule(runs, where: str, limit: str = "max_increase = 0.5"):
    file = runs.place / "rules.toml"
    text = '[[rule]]\nid = "r"\nprobe = "recall"\nmetric = "exact_frac"\nmin_n = 1\n'
    file.write_text(f"{text}{where}\n{limit}\n")
    return file


LAST, ZERO, ANY = 'where = { step = "last" }', "where = { step = 0 }", ""


@pytest.mark.parametrize(
    ("run", "baseline", "where", "code"),
    [
        ("alone", "sequence", ANY, 3),
        ("sequence", "alone", ANY, 3),
        ("alone", "sequence", ZERO, 3),
        ("sequence", "alone", ZERO, 3),
        ("alone", "first", ANY, 3),
        ("alone", "sequence", LAST, 0),
        ("sequence", "alone", LAST, 0),
        ("alone", "alone", ANY, 0),
        ("alone", "alone", LAST, 0),
        ("alone", "alone", ZERO, 3),
    ],
)
def test_a_baseline_is_the_last_step_or_none(runs, run, baseline, where, code, cli, tmp_path) -> None:
    rules, before = _rule(runs, where), getattr(runs, baseline)
    if run == baseline:
        # A run is no baseline of itself.
        before = shutil.copytree(before, tmp_path / "before")
    said = cli("gate", getattr(runs, run), "--rules", rules, "--baseline", before)
    assert said.code == code, said.out


def test_last_selects_a_model_without_a_step_and_0_does_not(runs, cli) -> None:
    limit = "max = 0.999\nbound = 'estimate'"
    told = cli("gate", runs.alone, "--rules", _rule(runs, LAST, limit)).out
    assert "1 row" in told
    assert "final final" in told
    said = cli("gate", runs.alone, "--rules", _rule(runs, ZERO, limit))
    assert said.code == 3
    assert "no row has step 0: final has no step" in said.out


def test_a_probe_over_time_is_refused(runs, tiny, tmp_path) -> None:
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    items = tmp_path / "items.jsonl"
    items.write_text(
        "".join(json.dumps(row | {"first_step": 5 if i % 2 else None}) + "\n" for i, row in enumerate(rows))
    )
    with pytest.raises(ItemError, match="retention: needs at least two checkpoints in the order"):
        memprobe.run(probes=["retention"], model=str(runs.model), data=str(items), out=tmp_path / "run")


def test_steps_choose_no_model_without_a_step(runs, cli, tiny, tmp_path) -> None:
    said = cli(
        "run", "-p", "recall", "-m", runs.model, "-d", tiny.items, "--steps", "0", "-o", tmp_path / "run"
    )
    assert said.code == 2
    assert "it has one checkpoint, without a step" in said.err


def test_a_dry_run_and_ls_say_none(runs, cli, tiny, tmp_path) -> None:
    ask = ("-p", "recall", "-m", runs.model, "-d", tiny.items, "-o", tmp_path / "run")
    assert " none " in cli("run", *ask, "--dry-run").out
    assert " none " in cli("checkpoints", "ls", runs.model).out
    assert json.loads(cli("checkpoints", "ls", runs.model, "--json").out)["checkpoints"][0]["step"] is None
