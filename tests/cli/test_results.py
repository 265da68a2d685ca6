"""`memprobe summary` and `memprobe export`: every table in every format, of finished and unfinished runs."""

import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import memprobe

TABLES = ("summary", "extraction", "items", "recall", "recognition")


@pytest.fixture
def unfinished(finished, tmp_path):
    """A run that was killed after its first checkpoint: no units of the others, no tables but the items."""
    run = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    kept = manifest["checkpoints"][0]["context"]
    for file in (run / "units").glob("*.parquet"):
        if not file.name.startswith(kept):
            file.unlink()
    for name in ("extraction", "recall", "recognition"):
        (run / "tables" / f"{name}.parquet").unlink()
    for name in ("summary.parquet", "summary.csv"):
        (run / name).unlink()
    for name in ("checks", "failures", "probes", "timings"):
        del manifest[name]
    (run / "manifest.json").write_text(json.dumps(manifest | {"state": "scoring"}))
    return run


def exported(cli, run, table, to, tmp_path) -> bytes:
    file = tmp_path / f"{table}.{to}"
    answer = cli("export", run, "--table", table, "--to", to, "-o", file)
    assert answer.code == 0, answer.err
    assert answer.out == ""
    assert f"wrote {file}" in answer.err
    return file.read_bytes()


@pytest.mark.parametrize("table", TABLES)
def test_parquet_is_the_table(table, cli, finished, tmp_path):
    content = exported(cli, finished, table, "parquet", tmp_path)
    assert_frame_equal(pl.read_parquet(io.BytesIO(content)), memprobe.open_run(finished).table(table))


@pytest.mark.parametrize("table", TABLES)
def test_csv_holds_every_value_of_the_table(table, cli, finished, tmp_path):
    frame = memprobe.open_run(finished).table(table)
    content = exported(cli, finished, table, "csv", tmp_path)
    # A list is JSON in its cell.
    lists = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    types = {name: pl.String() if name in lists else dtype for name, dtype in frame.schema.items()}
    read = pl.read_csv(io.BytesIO(content), schema_overrides=types)
    assert_frame_equal(
        read.with_columns(pl.col(name).str.json_decode(frame.schema[name]) for name in lists), frame
    )


@pytest.mark.parametrize("table", TABLES)
def test_json_holds_every_value_and_null_where_it_has_none(table, cli, finished, tmp_path):
    frame = memprobe.open_run(finished).table(table)
    rows = json.loads(exported(cli, finished, table, "json", tmp_path))
    expected = [
        {
            name: None if isinstance(value, float) and math.isinf(value) else value
            for name, value in row.items()
        }
        for row in frame.iter_rows(named=True)
    ]
    assert rows == expected


def test_an_infinity_is_a_value_in_the_table_and_null_in_json(cli, finished, tmp_path):
    frame = memprobe.open_run(finished).table("extraction").filter(~pl.col("in_support"))
    # A true token outside the 40 likeliest has probability 0 under top-40 sampling.
    assert frame.height > 0
    assert set(frame["scheme"]) == {"top40"}
    assert set(frame["logp_nats"]) == {-math.inf}
    assert set(frame["n_at_p0.5"]) == {math.inf}
    rows = json.loads(exported(cli, finished, "extraction", "json", tmp_path))
    outside = [row for row in rows if not row["in_support"]]
    assert {(row["logp_nats"], row["n_at_p0.5"], row["pz"]) for row in outside} == {(None, None, 0.0)}
    assert "inf" in exported(cli, finished, "extraction", "csv", tmp_path).decode()


def test_a_list_is_json_in_a_csv_cell_as_item_files_have_it(cli, run, tiny, tmp_path):
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    for row in rows:
        row |= {"first_step": 5, "exposure_steps": [5, 9], "exposures": 2}
    file = tmp_path / "timed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answered = run(probes=["recall"], data=str(file))
    table = exported(cli, answered.path, "items", "csv", tmp_path).decode()
    assert '"[5, 9]"' in table
    assert pl.read_csv(table.encode())["exposure_steps"].unique().to_list() == ["[5, 9]"]


def test_json_flag_gives_the_rows_with_their_table_and_a_schema(cli, finished, tmp_path):
    document = json.loads(cli("export", finished, "--table", "recall", "--json").out)
    assert list(document) == ["schema_version", "run", "table", "rows"]
    assert document["rows"] == json.loads(exported(cli, finished, "recall", "json", tmp_path))
    assert cli("export", finished, "--to", "json", "--json").code == 0


def test_json_flag_with_a_file_says_what_was_written(cli, finished, tmp_path):
    file = tmp_path / "x.csv"
    answer = cli("export", finished, "--to", "csv", "-o", file, "--json", "-q")
    document = json.loads(answer.out)
    assert (document["file"], document["format"], document["table"]) == (str(file), "csv", "summary")
    assert document["n_rows"] == pl.read_csv(file).height
    assert answer.err == ""


@pytest.mark.parametrize(
    ("args", "what"),
    [(["--json", "--to", "csv"], "both want stdout"), ([], "no format was given")],
)
def test_an_export_that_does_not_say_what_goes_to_stdout_is_2(args, what, cli, finished):
    answer = cli("export", finished, *args)
    assert (answer.code, answer.out) == (2, "")
    assert what in answer.err


@pytest.mark.parametrize("table", TABLES)
def test_markdown_is_a_table_of_as_many_rows(table, cli, finished, tmp_path):
    frame = memprobe.open_run(finished).table(table)
    lines = exported(cli, finished, table, "markdown", tmp_path).decode().splitlines()
    assert len(lines) == frame.height + 2
    cells = [[cell.strip() for cell in line.replace(r"\|", "¦").strip("|").split("|")] for line in lines]
    assert cells[0] == frame.columns
    assert {len(row) for row in cells} == {frame.width}
    assert set(cells[1]) == {"---", "---:"}
    for row, values in zip(cells[2:], frame.rows(), strict=True):
        shown = ["" if value is None else str(value).replace("|", "¦") for value in values]
        assert [cell.lower() for cell in row] == [each.lower() for each in shown]


def test_markdown_keeps_a_cell_on_its_line_and_its_bars_apart():
    from memprobe.cli.results import _markdown

    frame = pl.DataFrame(
        {"a|b": ["x|y", "two\nlines", None], "n": [1.5, None, 3.0], "ok": [True, False, None]}
    )
    assert _markdown(frame) == (
        "| a\\|b | n | ok |\n"
        "| --- | ---: | --- |\n"
        "| x\\|y | 1.5 | true |\n"
        "| two lines |  | false |\n"
        "|  | 3.0 |  |\n"
    )


@pytest.mark.parametrize("to", ["csv", "json", "markdown", "parquet"])
def test_without_a_file_the_same_bytes_go_to_stdout(to, cli, finished, tmp_path):
    command = [sys.executable, "-m", "memprobe", "export", finished, "--to", to, "--table", "recall"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == exported(cli, finished, "recall", to, tmp_path)
    assert done.stderr == b""


def test_an_unknown_table_is_3_and_lists_those_that_are_there(cli, finished):
    answer = cli("export", finished, "--to", "csv", "--table", "recal")
    assert answer.code == 3
    assert "the run has no table `recal`" in answer.err
    assert "tables are: summary, dose_response, extraction, items, recall, recognition" in answer.err


@pytest.mark.parametrize(
    ("place", "told"), [("no/x.csv", "the folder to write to does not exist"), ("", "a folder")]
)
def test_a_file_that_cannot_be_written_is_2(place, told, cli, finished, tmp_path):
    answer = cli("export", finished, "--to", "csv", "-o", tmp_path / place)
    assert answer.code == 2
    assert told in answer.err


def test_summary_json_is_the_summary_table(cli, finished):
    document = json.loads(cli("summary", finished, "--json").out)
    assert document["state"] == "done"
    assert document["summary"] == memprobe.open_run(finished).summary.to_dicts()


def test_all_shows_the_conditions_that_the_short_form_counts(cli, finished):
    short, full = cli("summary", finished).out, cli("summary", finished, "--all").out
    # extraction's rate: 2 schemes, 5 n and 4 p are 40 conditions; those with p = 0.5 are 10.
    assert "30 more conditions: memprobe summary RUN --all" in short
    assert "scheme=top40;n=100;p=0.9" not in short
    assert full.count("scheme=top40;n=100;p=") >= 4
    assert "more conditions" not in full


def test_an_unfinished_run_shows_as_far_as_its_units_reach(cli, unfinished, finished):
    answer = cli("summary", unfinished, "--json")
    assert answer.code == 0
    assert "the run is not finished; `memprobe run` with the same command goes on" in answer.err
    document = json.loads(answer.out)
    assert document["state"] == "scoring"
    whole = memprobe.open_run(finished).summary
    assert document["summary"] == whole.filter(step=0).to_dicts()
    assert cli("summary", unfinished).code == 0


def test_looking_at_an_unfinished_run_writes_nothing(cli, unfinished):
    before = sorted(unfinished.rglob("*"))
    cli("summary", unfinished)
    cli("export", unfinished, "--to", "csv", "-o", unfinished.parent / "x.csv")
    assert sorted(unfinished.rglob("*")) == before


def test_a_summary_of_no_checkpoint_says_so(cli, unfinished):
    shutil.rmtree(unfinished / "units")
    answer = cli("summary", unfinished)
    assert answer.code == 0
    assert "no estimate: no checkpoint" in answer.out
    assert json.loads(cli("summary", unfinished, "--json").out)["summary"] == []


def test_the_summary_of_an_unfinished_run_can_be_exported(cli, unfinished, finished, tmp_path):
    content = exported(cli, unfinished, "summary", "parquet", tmp_path)
    assert_frame_equal(
        pl.read_parquet(io.BytesIO(content)), memprobe.open_run(finished).summary.filter(step=0)
    )
