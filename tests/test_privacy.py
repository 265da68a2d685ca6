"""Text and token ids stay out of every file of a run, unless they are asked for."""

import json
import stat
from pathlib import Path

import polars as pl
import pytest

SECRETS = ("Zanzibar", "person", "quokka", "wombat", "07919", "00000.")


def _contents(run: Path) -> dict[str, str]:
    """Return all that a run holds as text: every file's bytes, and every value of every Parquet file."""
    texts = {}
    for file in sorted(each for each in run.rglob("*") if each.is_file()):
        texts[file.name] = file.read_bytes().decode("latin-1")
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
            texts[f"{file.name} as read"] = json.dumps(
                [frame.columns, *frame.rows(), pl.read_parquet_metadata(file)], default=str
            )
    return texts


@pytest.fixture
def with_generation(run):
    """Return a run in which every probe writes all that it can."""
    return lambda **changes: run(
        "quickstart", settings=["recall.generate=true", "recall.verify_items=24"], **changes
    )


def test_no_file_of_a_run_holds_text_or_token_ids(with_generation, make, tmp_path):
    done = with_generation()
    texts = _contents(done.path)
    assert len(texts) > 10
    leaks = [(name, secret) for name, text in texts.items() for secret in SECRETS if secret in text]
    assert leaks == []
    ids = make.tokenizer()(make.rows(1)[0]["prefix"], add_special_tokens=False)["input_ids"]
    # Four ids in a row are no coincidence.
    written = [", ".join(map(str, ids[i : i + 4])) for i in range(len(ids) - 3)]
    assert [(name, each) for name, text in texts.items() for each in written if each in text] == []


def test_an_item_left_out_does_not_leak_its_text(run, make, tmp_path):
    rows = [
        *make.rows(3),
        {"text": ["Zanzibar"]},
        {"text": "quokka", "input_ids": [1]},
        {"prefix": "wombat"},
        {"text": "person", "foil": 7},
        {"text": "quokka wombat", "exposures": -1},
        {"prefix": "p", "suffix": "quokka"},
    ]
    data = make.items(tmp_path / "bad.jsonl", rows)
    with data.open("a") as file:
        file.write('{"text": "Zanzibar\n{"text": Zanzibar}\n')
    settings = ["recall.prefix_tokens=5"]
    done = run(probes=["recall"], data=str(data), on_bad_item="skip", settings=settings)
    assert done.manifest["items"]["n_skipped"] == 7
    leaks = [(n, secret) for n, text in _contents(done.path).items() for secret in SECRETS if secret in text]
    assert leaks == []


def test_segments_of_trials_do_not_leak(run, make, tmp_path):
    rows = [
        {"text": f"Zanzibar {i}. The quokka {i} ran. A wombat {i} sat.", "segment_1": f"The quokka {i}"}
        | {"segment_2": f"A wombat {i}", "title": "Tales", "group": "g"}
        for i in range(4)
    ]
    data = make.items(tmp_path / "trials.jsonl", rows)
    done = run(probes=["recall"], data=str(data), settings=["recall.prefix_tokens=5"])
    leaks = [(n, secret) for n, text in _contents(done.path).items() for secret in SECRETS if secret in text]
    assert leaks == []
    assert done.table("recall")["title"].to_list() == ["Tales"] * 4
    assert "split" not in done.table("recall").columns


def test_with_include_text_the_tables_hold_it_and_only_the_owner_reads_them(with_generation):
    done = with_generation(include_text=True)
    assert done.table("recall")["suffix"].to_list()[1] == "quokka-07919."
    assert "wombat" in done.table("recognition")["foil"].to_list()[1]
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in done.path.rglob("*") if file.is_file()}
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o600} == {}


def test_text_in_the_tables_changes_no_number(with_generation, tmp_path):
    with_text = with_generation(include_text=True)
    without = with_generation(out=tmp_path / "without")
    assert with_text.summary.equals(without.summary)
