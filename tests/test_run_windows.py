"""Windows and chats through the whole pipeline: run, measured again without a model, resumed, added to."""

import json
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import ItemError
from memprobe.pipeline.again import measure_again
from memprobe.probes.extraction.tables import COVERAGE, EXTRACTION_WINDOWS
from memprobe.tables.store import RunStore

BY_CHARS = ("extraction.prefix_tokens=6", "extraction.suffix_tokens=6", "extraction.stride_chars=9")
BY_TOKENS = ("extraction.prefix_tokens=6", "extraction.suffix_tokens=6", "extraction.stride_tokens=9")
# tests/conftest.py: one token per byte, so both strides cut the same windows out of ASCII text.
STORY = " ".join(f"On day {i} the lantern of Ansel Grebe hung at gate {i * 37 % 91}." for i in range(40))


@pytest.fixture
def books(tmp_path):
    rows = [
        {"item_id": "seen", "text": STORY, "group": "book", "exposures": 3},
        {"item_id": "unseen", "text": STORY[::-1], "group": "book", "exposures": 0},
    ]
    file = tmp_path / "books.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def ask(run, books, settings, **more):
    return run(probes=["extraction"], settings=settings, data=books, **more)


def test_a_document_longer_than_the_context_is_measured_window_by_window(run, books) -> None:
    answered = ask(run, books, BY_CHARS)
    table, coverage = answered.table("extraction"), answered.table("coverage")
    EXTRACTION_WINDOWS.check(table)
    COVERAGE.check(coverage)
    # One token per character: windows of 12 characters at 0, 9, 18, ... as long as 12 are left.
    expected = list(range(0, len(STORY) - 12 + 1, 9))
    seen = table.filter(item_id="seen", scheme="full").sort("window")
    assert seen["window_start_char"].to_list() == expected
    assert seen["suffix_start_char"].to_list() == [start + 6 for start in expected]
    assert seen["suffix_end_char"].to_list() == [start + 12 for start in expected]
    row = coverage.filter(item_id="seen", scheme="full", tau=0.5).row(0, named=True)
    assert (row["document_chars"], row["head_chars"]) == (len(STORY), 6)
    assert row["tail_chars"] == len(STORY) - (expected[-1] + 12)
    assert row["n_windows"] == len(expected)


def test_both_strides_score_the_same_where_a_token_is_a_character(run, books, tmp_path) -> None:
    by_chars = ask(run, books, BY_CHARS).table("extraction")
    by_tokens = ask(run, books, BY_TOKENS, out=tmp_path / "tokens").table("extraction")
    same = ["item_id", "scheme", "window", "window_start_char", "suffix_end_char"]
    joined = by_chars.join(by_tokens, on=same, suffix="_other")
    assert joined.height == by_chars.height == by_tokens.height
    assert (joined["logp_nats"] - joined["logp_nats_other"]).abs().max() < 1e-4


def test_the_summary_has_intervals_by_blocks_and_the_unseen_document_beside(run, books) -> None:
    # One suffix token under top-k 40 of 256: some windows are in the support and some are not.
    settings = [*BY_CHARS, "extraction.suffix_tokens=1", "extraction.schemes=[{top_k=40}]"]
    answered = ask(run, books, [*settings, "extraction.tau=[0.000001]"])
    both = answered.summary.filter(pl.col("group").is_null())
    rate = both.filter(metric="max_rate_frac", condition="scheme=top40").row(0, named=True)
    in_support = answered.table("extraction")["in_support"]
    assert rate["estimate"] == pytest.approx(in_support.mean())
    assert 0 < rate["ci_low"] < rate["estimate"] < rate["ci_high"] < 1
    assert (rate["ci_method"], rate["n_items"], rate["n_clusters"]) == ("pseudo-block", len(in_support), 2)
    condition = "scheme=top40;tau=1e-06"
    covered = both.filter(metric="coverage_frac", condition=condition).row(0, named=True)
    table = answered.table("coverage")
    assert covered["estimate"] == pytest.approx(table["covered_chars"].sum() / table["document_chars"].sum())
    assert covered["ci_low"] < covered["estimate"] < covered["ci_high"]
    sides = {
        kind: both.filter(metric="coverage_frac", condition=f"{condition};trained={kind}")["estimate"].item()
        for kind in ("true", "false")
    }
    unseen = table.filter(item_id="unseen")["coverage_frac"].item()
    assert sides["false"] == pytest.approx(unseen)
    excess = both.filter(metric="coverage_excess_frac", condition=f"{condition};control=never-trained").row(
        0, named=True
    )
    assert excess["estimate"] == pytest.approx(sides["true"] - sides["false"])
    assert excess["ci_low"] < excess["estimate"] < excess["ci_high"]


def test_a_run_is_measured_again_from_its_units_and_windows_alone(run, books) -> None:
    answered = ask(run, books, BY_CHARS)
    again = measure_again(RunStore(answered.path))
    assert again.summary.equals(answered.summary)
    for name in ("extraction", "coverage"):
        assert again.tables[name].equals(answered.table(name))


def test_the_same_run_asked_again_scores_nothing(run, books, units_of) -> None:
    first = units_of(ask(run, books, BY_CHARS).path)
    assert units_of(ask(run, books, BY_CHARS).path) == first


def test_windows_are_added_to_a_run_that_holds_another_probe(run, books) -> None:
    run(probes=["recall"], data=books, settings=("recall.prefix_tokens=6", "recall.suffix_tokens=6"))
    answered = ask(run, books, BY_CHARS)
    assert answered.table("coverage").height
    assert answered.table("recall").height == 2


def test_documents_too_short_for_a_window_are_named(run, tmp_path) -> None:
    file = tmp_path / "short.jsonl"
    file.write_text(json.dumps({"item_id": "s", "text": "Too short."}) + "\n")
    with pytest.raises(ItemError, match="has 10 tokens, a window needs 12"):
        ask(run, str(file), BY_CHARS)


def test_no_text_of_a_document_is_written(run, books) -> None:
    answered = ask(run, books, BY_CHARS)
    for file in answered.path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"lantern" not in data, file
            assert b"Ansel" not in data, file


# Chats


@pytest.fixture
def chatty(make, tmp_path):
    """Return a checkpoint whose tokenizer has a chat template."""
    tokenizer = make.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    return str(make.sequence(tmp_path / "chatty", (20,), tokenizer=tokenizer))


def test_chat_scores_the_suffix_behind_the_template(tiny, chatty, tmp_path) -> None:
    chat = memprobe.run(
        probes=["recall"], settings=["recall.chat=true"], model=chatty, data=tiny.items, threads=1,
        out=tmp_path / "chat",
    )  # fmt: skip
    # The same strings given as they stand, without a template, through the same weights.
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps(row | {"prefix": f"[{row['prefix']}]"}) + "\n" for row in rows))
    by_hand = memprobe.run(
        probes=["recall"], model=chatty, data=str(plain), threads=1, out=tmp_path / "by-hand"
    )
    columns = ["item_id", "prefix_tokens", "suffix_tokens", "exact", "lcp_tokens", "hit_frac"]
    assert chat.table("recall").select(columns).equals(by_hand.table("recall").select(columns))
    assert chat.manifest["checks"]["greedy_verified"] == 4
    assert chat.manifest["checks"]["greedy_tf_disagree"] == 0


def test_chat_without_a_template_is_refused_before_any_work(tiny, cli, tmp_path) -> None:
    answer = cli("run", "-p", "recall", "--set", "recall.chat=true", *tiny.one, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "the tokenizer has no chat template" in answer.err
    assert not (tmp_path / "run").exists()
