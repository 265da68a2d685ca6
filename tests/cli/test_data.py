"""`memprobe data check`, `split` and `sort` as a user types them: exit codes, 80 columns, JSON, no text."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from memprobe.lab.text import read_texts

HEAVY = ("torch", "transformers", "datasets", "scipy.stats", "tokenizers")


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


# check


def test_clean_files_are_0_and_previewed(cli, tiny):
    answer = cli("data", "check", tiny.items)
    assert answer.code == 0
    assert answer.err == ""
    assert "prefix + suffix 24" in answer.out
    assert answer.out.splitlines()[-1] == "clean: `memprobe run` takes these files"
    assert widest(answer.out) <= 80
    assert "quokka" not in answer.out


def test_bad_items_are_2_with_their_places_and_a_count(cli, write):
    file = write("i.jsonl", '{"text": ""}\n{"prefix": "a"}\n{"item_id": "ok", "text": "Zanzibar"}\n')
    answer = cli("data", "check", file)
    assert answer.code == 2
    assert "suffix without" not in answer.out
    assert "prefix without suffix" in answer.out
    assert answer.out.splitlines()[-1] == "2 problems, 2 of 3 items bad: `memprobe run` refuses these files"
    assert widest(answer.out) <= 80
    assert "Zanzibar" not in answer.out
    assert "Zanzibar" in cli("data", "check", file, "--include-text").out


def test_many_bad_lines_are_counted_and_json_holds_all(cli, write):
    file = write("i.jsonl", '{"text": 1}\n' * 500 + "oops\n" * 3 + '{"text": "fine"}\n')
    answer = cli("data", "check", file)
    assert answer.code == 2
    assert answer.out.count("a number, not a string") == 21, "a count, and the first twenty"
    assert "and 480 more; --json lists all" in answer.out
    assert answer.out.count("no JSON: Expecting value at") == 3
    held = json.loads(cli("data", "check", file, "--json").out)
    assert len(held["findings"]) == 503
    assert [kind["n"] for kind in held["kinds"]] == [500, 3]
    assert (held["clean"], held["n_rows"], held["n_bad_rows"]) == (False, 504, 503)
    assert held["preview"]["n_items"] == 1


def test_a_model_adds_lengths_and_what_each_probe_could_measure(cli, tiny):
    answer = cli("data", "check", tiny.items, "-m", tiny.model, "--steps", "20")
    assert answer.code == 0
    assert "In tokens of main" in answer.out
    assert "min 41, p5 41" in answer.out
    assert "recognition" in answer.out
    assert widest(answer.out) <= 80
    assert cli("data", "check", tiny.items, "-m", tiny.model, "--set", "recall.suffix_tokens=40").code == 2


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["data", "check"], "Missing argument"),
        (["data", "check", "gone.jsonl", "-p", "recall"], "there is no tokenizer"),
        (["data", "check", "gone.jsonl", "--tokenizer", "nowhere"], ""),
        (["data", "chek", "x"], "Did you mean 'check'?"),
        (["data", "check", "x.jsonl", "--modle", "x"], "No such option: --modle"),
    ],
)
def test_wrong_usage_is_2(args, told, cli):
    answer = cli(*args)
    assert answer.code == 2
    assert told in " ".join(answer.err.replace("│", " ").split())


def test_a_missing_file_is_a_finding_beside_those_of_the_others(cli, write):
    answer = cli(
        "data", "check", write("i.jsonl", '{"text": ""}\n'), write("i.jsonl", "").parent / "gone.jsonl"
    )
    assert answer.code == 2
    assert "no such file" in answer.out


def test_a_check_without_a_tokenizer_imports_nothing_heavy(tiny):
    code = (
        f"import sys; sys.argv = ['memprobe', 'data', 'check', {tiny.items!r}]\n"
        "from memprobe.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        f"    print(end.code, [n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 []"


# split


def test_documents_become_items_that_run_takes(cli, tiny, write, tmp_path):
    book = write("book.txt", "Ångström said: “naïve” 漢字.\r\n\r\n" * 20)
    out = tmp_path / "o.jsonl"
    answer = cli(
        *("data", "split", book, "--by", "tokens", "--prefix", "20", "--suffix", "10", "--stride", "40"),
        *("-m", tiny.model, "-o", out),
    )
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == f"next: memprobe run -p recall -m MODEL -d {out}"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    # The text as `lab train` reads it: offsets and items are those of what a model is trained on.
    source = read_texts([book])["book.txt"]
    assert "\r" not in source
    assert all(row["prefix"] + row["suffix"] == source[row["start_char"] : row["end_char"]] for row in rows)
    assert all(len(row["prefix"].encode()) >= 20 for row in rows)
    settings = ("--set", "recall.prefix_tokens=20", "--set", "recall.suffix_tokens=10")
    assert cli("data", "check", out, "-m", tiny.model, *settings).code == 0
    run = cli(
        "run",
        "-p",
        "recall",
        "-m",
        tiny.model,
        "-d",
        out,
        *settings,
        "--steps",
        "20",
        "--threads",
        "1",
        "-o",
        tmp_path / "r",
    )
    assert run.code == 0, run.err
    measured = pl.read_parquet(tmp_path / "r" / "tables" / "recall.parquet")
    places = {row["item_id"]: row["start_char"] for row in rows}
    assert dict(measured.select("item_id", "start_char").iter_rows()) == places


def test_a_split_says_what_it_left_and_json_says_it_too(cli, write, tmp_path):
    file = write("d.txt", "one two three four five")
    answer = cli(
        "data", "split", file, "--by", "words", "--window", "2", "-o", tmp_path / "o.parquet", "--json"
    )
    held = json.loads(answer.out)
    # `one two`, `three four`: the blank between them and ` five` are in no window.
    assert (held["n_items"], held["n_chars"], held["n_covered_chars"], held["n_tail_chars"]) == (2, 23, 17, 5)
    assert pl.read_parquet(tmp_path / "o.parquet")["text"].to_list() == ["one two", "three four"]


def test_a_stream_becomes_items_with_first_step_that_run_takes(cli, tiny, tmp_path):
    np.save(tmp_path / "s.npy", (np.arange(90) % 256).astype("uint16"))
    out = tmp_path / "o.jsonl"
    args = ("data", "split", tmp_path / "s.npy", "--sequence-tokens", "9", "--batch-size", "4", "-o", out)
    answer = cli(*args, "-m", tiny.model)
    assert answer.code == 0, answer.err
    assert "2 sequences at the end" in answer.err
    assert "first_step 1 to 2" in answer.out
    assert "controls cannot come from the stream" in answer.out
    assert [json.loads(line)["first_step"] for line in out.read_text().splitlines()] == [1] * 4 + [2] * 4
    assert cli("data", "check", out, "-m", tiny.model).code == 0
    run = ("run", "-p", "recall", "-m", tiny.model, "-d", out, "--steps", "20", "--threads", "1")
    assert cli(*run, "-o", tmp_path / "r").code == 0
    refused = cli(*args)
    assert refused.code == 2
    assert "the file is there already" in refused.err
    assert cli(*args, "--force", "-q").err == ""


def test_ids_that_the_model_does_not_have_are_2(cli, tiny, tmp_path):
    np.save(tmp_path / "s.npy", np.array([[1, 2], [3, 256]]))
    answer = cli(
        "data", "split", tmp_path / "s.npy", "--batch-size", "1", "-m", tiny.model, "-o", tmp_path / "o.jsonl"
    )
    assert answer.code == 2
    assert "sequence s-1 holds the id 256, the model's vocabulary has 256" in answer.err
    assert not (tmp_path / "o.jsonl").exists()


def test_sequences_beyond_the_context_are_told(cli, tiny, tmp_path):
    for n_tokens, told in ((97, False), (98, True)):
        np.save(tmp_path / "s.npy", np.zeros((2, n_tokens), "uint16"))
        args = (
            "data",
            "split",
            tmp_path / "s.npy",
            "--batch-size",
            "1",
            "-o",
            tmp_path / "o.jsonl",
            "--force",
        )
        assert ("context holds 96" in cli(*args, "-m", tiny.model).err) is told


@pytest.mark.parametrize(
    ("files", "args", "told"),
    [
        ("d", [], "the unit of the cut is not given"),
        ("d", ["--by", "words"], "a cut is a prefix with a suffix, or a window"),
        ("d", ["--by", "letters", "--window", "2"], "'letters' is not one of"),
        ("d", ["--by", "tokens", "--window", "2"], "a tokenizer is needed"),
        ("d", ["--by", "words", "--window", "2", "--batch-size", "3"], "--batch-size is for token streams"),
        ("d", ["--by", "words", "--window", "2", "--seed", "-1"], "--seed is -1"),
        ("d", ["--by", "words", "--window", "2", "--n", "9"], "--n asks for 9 windows, and there are 1"),
        ("s", [], "first_step follows from the batch size, which is not given"),
        ("s", ["--batch-size", "1", "--by", "words", "--window", "3"], "--by, --window are for documents"),
        ("s", ["--batch-size", "1", "--order", "gone.npy"], "no such file"),
        ("sd", ["--batch-size", "1"], "documents and token streams in one command"),
        ("", [], "Missing argument 'FILE"),
    ],
)
def test_a_split_that_cannot_be_made_is_2_and_writes_nothing(files, args, told, cli, write, tmp_path):
    write("d.txt", "one two three")
    np.save(tmp_path / "s.npy", np.array([[1, 2], [3, 4]]))
    names = {"d": tmp_path / "d.txt", "s": tmp_path / "s.npy"}
    answer = cli("data", "split", *(names[name] for name in files), *args, "-o", tmp_path / "o.jsonl")
    assert answer.code == 2
    assert told in " ".join(answer.err.replace("│", " ").split())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.txt", "s.npy"]


# sort


@pytest.fixture
def stories(write):
    """Return two documents of 150 sentences of 4 to 14 words, which stand nowhere twice."""
    lines = [f"Zanzibar {i} ran{' on' * (i * 7 % 11)} past-{i}. " for i in range(150)]
    return [write("a.txt", "".join(lines)), write("b.txt", "".join(lines[::-1]))]


SHORT = ("--excerpt-words", "60", "--segment-words", "8", "--per-cell", "12", "--validation", "4")


def test_sort_writes_trials_that_check_calls_clean(cli, stories, tmp_path):
    out = tmp_path / "t.parquet"
    answer = cli("data", "sort", *stories, *SHORT, "-o", out)
    assert answer.code == 0
    assert answer.out == ""
    assert "96 trials (test 64, validation 32)" in answer.err
    assert f"next: memprobe run -p sort -m MODEL -d {out}" in answer.err
    checked = cli("data", "check", out)
    assert checked.code == 0
    assert "SORT trials" in checked.out
    assert "exactly half in 16 of 16 cells" in checked.out
    assert widest(checked.out) <= 80
    assert "Zanzibar" not in answer.err + checked.out


def test_sort_json_is_alone_on_stdout_and_holds_no_text(cli, stories, tmp_path):
    answer = cli("data", "sort", *stories, *SHORT, "-o", tmp_path / "t.jsonl", "--json", "-q")
    told = json.loads(answer.out)
    assert answer.err == ""
    assert (told["n_trials"], told["n_cells"], len(told["cells"])) == (96, 8, 8)
    assert told["seed"] == 0
    assert "Zanzibar" not in answer.out
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 96


def test_sort_says_what_is_left_out(cli, stories, write, tmp_path):
    short = write("short.txt", "One. Two.")
    answer = cli("data", "sort", *stories, short, *SHORT, "-o", tmp_path / "t.parquet")
    assert answer.code == 0
    assert "note: short, excerpts of 60 and segments of 8: left out: the text has 2 words" in answer.err


def test_the_seed_of_sort_counts(cli, stories, tmp_path):
    for seed in (0, 0, 1):
        cli("data", "sort", stories[0], *SHORT, "--seed", seed, "--force", "-o", tmp_path / f"{seed}.parquet")
    cli("data", "sort", stories[0], *SHORT, "-o", tmp_path / "none.parquet")
    told = {name: (tmp_path / f"{name}.parquet").read_bytes() for name in ("0", "1", "none")}
    assert told["0"] == told["none"] != told["1"]


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--excerpt-words", "250;1000"), "--excerpt-words is 250;1000"),
        (("--excerpt-words", ""), "--excerpt-words is "),
        (("--segment-words", "100", "--excerpt-words", "250"), "segments of 100 words leave no room in 250"),
        (("--per-cell", "11"), "--per-cell is 11, and 10 of them are validation trials"),
        (("--seed", "-1"), "--seed is -1"),
        (("--percell", "4"), "--per-cell"),
        (("-o", "no/such/t.parquet"), "the folder to write to does not exist"),
        (("-o", "t.csv"), "items are written to"),
        (("--excerpt-words", "2500"), "the text has"),
    ],
)
def test_wrong_flags_of_sort_are_2_and_write_nothing(flags, what, cli, stories, tmp_path):
    answer = cli("data", "sort", stories[0], "-o", tmp_path / "t.parquet", *flags)
    assert answer.code == 2
    assert what in answer.err
    assert "Zanzibar" not in answer.err
    assert not (tmp_path / "t.parquet").exists()


def test_sort_of_a_file_that_is_there_is_2_unless_forced(cli, stories, tmp_path):
    out = tmp_path / "t.parquet"
    assert cli("data", "sort", stories[0], *SHORT, "-o", out).code == 0
    refused = cli("data", "sort", stories[0], *SHORT, "-o", out)
    assert refused.code == 2
    assert "--force" in refused.err
    assert cli("data", "sort", stories[0], *SHORT, "-o", out, "--force").code == 0
