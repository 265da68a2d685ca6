"""`memprobe export`: every table in every format; what is not clear is refused before any work."""

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
from memprobe.tables.store import RunStore

TABLES = ("summary", "extraction", "items", "recall", "recognition")


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
def test_markdown_is_a_table_of_as_many_rows(table, cli, finished):
    frame = memprobe.open_run(finished).table(table)
    # With columns named, the summary is its rows as they are, not a paper's table.
    answer = cli(
        "export", finished, "--table", table, "--to", "markdown", "--columns", ",".join(frame.columns)
    )
    lines = answer.out.splitlines()
    assert len(lines) == frame.height + 2
    cells = [[cell.strip() for cell in line.replace(r"\|", "¦").strip("|").split("|")] for line in lines]
    assert cells[0] == frame.columns
    assert {len(row) for row in cells} == {frame.width}
    assert set(cells[1]) == {"---", "---:"}
    for row, values in zip(cells[2:], frame.rows(), strict=True):
        shown = ["" if value is None else str(value).replace("|", "¦") for value in values]
        assert [cell.lower() for cell in row] == [each.lower() for each in shown]


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


def test_the_summary_of_an_unfinished_run_can_be_exported(cli, unfinished, finished, tmp_path):
    content = exported(cli, unfinished, "summary", "parquet", tmp_path)
    assert_frame_equal(
        pl.read_parquet(io.BytesIO(content)), memprobe.open_run(finished).summary.filter(step=0)
    )


def test_all_wrong_names_are_named_at_once(cli, finished):
    asked = ["-p", "recal", "--metric", "exact", "--columns", "estimat"]
    answer = cli("export", finished, "--to", "csv", *asked)
    assert answer.code == 2
    for name, nearest in (("recal", "recall"), ("exact", "exact_frac"), ("estimat", "estimate")):
        assert f"`{name}`, did you mean `{nearest}`?" in answer.err


@pytest.mark.parametrize("table", TABLES)
def test_a_csv_is_read_back_with_the_types_and_texts_of_the_table(table, cli, finished, tmp_path):
    frame = memprobe.open_run(finished).table(table)
    content = exported(cli, finished, table, "csv", tmp_path)
    # The types of the user's own columns are not the table's: they have to be said.
    assert_frame_equal(memprobe.read_csv(content, table, schema=dict(frame.schema)), frame)
    own = ["colour"] if "colour" in frame.columns else []
    assert_frame_equal(memprobe.read_csv(content, table).drop(own), frame.drop(own))


def test_latex_of_the_summary_is_a_papers_table(cli, finished):
    answer = cli("export", finished, "--to", "latex", "--label", "tab:x", "--caption", "What 100% & _more")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == "% needs \\usepackage{booktabs}"
    assert "  \\caption{What 100\\% \\& \\_more}" in lines
    assert "  \\label{tab:x}" in lines
    (head,) = {line.strip() for line in lines if line.strip().startswith("& ")}
    steps = [f"\\multicolumn{{2}}{{c}}{{step {step}}}" for step in (0, 10, 20)]
    assert head == f"& {' & '.join(steps)} & $n$ \\\\"
    row = memprobe.open_run(finished).summary.row(
        by_predicate=(pl.col("metric") == "hit_frac")
        & (pl.col("step") == 20)
        & pl.col("group").is_null()
        & pl.col("condition").is_null(),
        named=True,
    )
    whole, decimals = f"{row['estimate']:.2f}".split(".")
    (line,) = [line for line in lines if line.strip().startswith("hit\\_frac")]
    assert f".{decimals}" in line.split(" & ")[6]
    assert line.split(" & ")[5].replace("\\textbf{", "").strip("}") == whole
    assert f"[{row['ci_low']:.2f}, {row['ci_high']:.2f}]" in line.split(" & ")[6]


def test_rows_and_columns_can_be_chosen(cli, finished, tmp_path):
    file = tmp_path / "x.csv"
    chosen = ("--columns", "step,metric,estimate", "-p", "recall", "--metric", "hit_frac", "--steps", "0,20")
    assert cli("export", finished, "--to", "csv", "-o", file, *chosen).code == 0
    whole = memprobe.open_run(finished).summary
    expected = whole.filter(pl.col("metric") == "hit_frac", pl.col("step") != 10)
    assert_frame_equal(memprobe.read_csv(file), expected.select("step", "metric", "estimate"))


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-p", "recal"], "no row of summary has the probe `recal`, did you mean `recall`?"),
        (["--metric", "exact"], "no row of summary has the metric `exact`, did you mean `exact_frac`?"),
        (["--columns", "stepp"], "the table summary has no column `stepp`, did you mean `step`?"),
        (["--steps", "15"], "step 15 is not there"),
        (["--steps", "11..19"], "no step of 11..19 is there"),
        (["--table", "items", "--steps", "0"], "the table items has no column step"),
        (["--table", "recall", "-p", "recall"], "the table recall has no column probe"),
        (["--dictionary"], "the dictionary of a csv file is a second file"),
    ],
)
def test_what_is_not_there_is_2_and_named(args, told, cli, finished):
    answer = cli("export", finished, "--to", "csv", *args)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_the_dictionary_of_a_csv_lies_beside_it_and_names_every_column(cli, finished, tmp_path):
    file = tmp_path / "x.csv"
    answer = cli("export", finished, "--to", "csv", "--table", "extraction", "--dictionary", "-o", file)
    assert f"wrote {tmp_path / 'x.dictionary.csv'}: what its columns mean" in answer.err
    about = {row["column"]: row for row in memprobe.read_csv(tmp_path / "x.dictionary.csv").to_dicts()}
    assert list(about) == memprobe.read_csv(file).columns
    assert about["logp_nats"]["unit"] == "nats"
    assert about["n_at_p0.5"]["unit"] == "samples"
    assert about["colour"]["meaning"] == "a column of the item files"


@pytest.mark.parametrize("to", ["json", "markdown", "latex"])
def test_the_dictionary_of_a_text_stands_behind_it(to, cli, finished):
    answer = cli("export", finished, "--to", to, "--table", "recall", "--dictionary")
    assert answer.code == 0, answer.err
    assert "extraction strength: share of the suffix behind its last miss" in answer.out
    if to == "json":
        document = json.loads(answer.out)
        assert [each["column"] for each in document["columns"]] == list(document["rows"][0])


def test_the_dictionary_of_a_papers_table_is_of_its_metrics(cli, finished):
    answer = cli("export", finished, "--to", "markdown", "--dictionary", "-p", "recall")
    assert "| recall | exact_frac | fraction | more suffixes recalled whole | true |" in answer.out
    assert "gain_frac" not in answer.out


def test_an_export_that_fails_leaves_what_was_there(cli, finished, tmp_path, monkeypatch):
    file = tmp_path / "x.csv"
    file.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memprobe.tables.files.os.fsync", full)
    answer = cli("export", finished, "--to", "csv", "-o", file)
    assert answer.code == 4
    assert "the disk is full" in answer.err
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_of_a_run_with_text_is_its_owners_alone(cli, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    store = RunStore(run)
    store.write_manifest(store.read_manifest().changed(include_text=True))
    cli("export", run, "--to", "csv", "-o", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").stat().st_mode & 0o077 == 0


def test_hostile_groups_are_harmless_in_every_format(cli, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    hostile = "=cmd()|<script>{{x}}\u202e\x1b[31m\\input{x}"
    store = RunStore(run)
    store.write_manifest(store.read_manifest().changed(tables={}))
    for name in ("summary", "recall"):
        group = pl.when(pl.col("group") == "canary").then(pl.lit(hostile)).otherwise("group")
        store.write_table(name, store.read_table(name).with_columns(group=group))
    for to, sign in (("markdown", "&lt;script&gt;"), ("latex", "\\textless{}script")):
        out = cli("export", run, "--table", "recall", "--to", to).out
        assert sign in out
        assert not {"\u202e", "\x1b", "<script>", "{{x}}", "\\input{x}"} & {
            bad for bad in ("\u202e", "\x1b", "<script>", "{{x}}", "\\input{x}") if bad in out
        }
    assert "\n" + "'=cmd" not in cli("export", run, "--table", "recall", "--to", "csv").out
    read = memprobe.read_csv(cli("export", run, "--table", "recall", "--to", "csv").out.encode(), "recall")
    assert hostile in read["group"].unique().to_list()
    assert ",'=cmd" in cli("export", run, "--table", "recall", "--to", "csv").out
    for args in (("summary", run), ("summary", run, "--all")):
        answer = cli(*args)
        assert "\x1b" not in answer.out
        assert "\u202e" not in answer.out
