"""One unit: which statistics end up in which row, and what is never written."""

import numpy as np
import polars as pl
import pytest
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring import unit
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.statistics import TokenStatistics
from memprobe.scoring.tokenise import tokenise
from memprobe.tables.requests import Scheme
from memprobe.tables.spans import SPANS

TOP = Scheme(top_k=4)


def statistics_saying(values: np.ndarray) -> TokenStatistics:
    """Statistics whose every field is made of one number per token."""
    floats, ints = torch.tensor(values, dtype=torch.float32), torch.tensor(values, dtype=torch.int32)
    schemes = {TOP: -3 * floats}
    return TokenStatistics(-floats, ints, ints * 0, ints % 2 == 0, floats, 2 * floats, schemes)


@pytest.fixture
def positions(monkeypatch) -> None:
    """A scorer that gives each token its own id as its statistics: rows show which tokens they hold."""

    def score_batch(loaded, batch, schemes):
        return [statistics_saying(sequence.ids[sequence.score_from :]) for sequence in batch]

    monkeypatch.setattr(unit, "score_batch", score_batch)


@pytest.fixture
def nothing() -> LoadedModel:
    return LoadedModel(model=None, device=torch.device("cpu"))


def rows_by(frame: pl.DataFrame, *names: str) -> dict:
    return {tuple(row[name] for name in names): row for row in frame.iter_rows(named=True)}


@pytest.mark.parametrize("bos_id", [None, 1])
def test_each_span_holds_the_statistics_of_its_own_tokens(
    positions, nothing, id_items, ask, score, bos_id
) -> None:
    tokenised = id_items({"a": list(range(20, 30))}, bos_id=bos_id)  # token t is the number 20 + t
    spans = [(0, 0, 10), (0, 1, 10), (0, 3, 5), (0, 4, 9), (2, 5, 9), (2, 2, 4), (0, 0, 1), (6, 9, 10)]
    got = rows_by(
        score(nothing, tokenised, [ask("a", *s) for s in spans], further=(TOP,)),
        "start",
        "score_from",
        "stop",
    )
    assert set(got) == set(spans)
    for (start, score_from, stop), row in got.items():
        # Without a BOS the first token that is read has no condition, so no score.
        first = score_from if bos_id is not None else max(score_from, start + 1)
        expected = [20.0 + t for t in range(first, stop)]
        assert [-value for value in row["logprob_nats"]] == expected
        assert row["rank"] == expected
        assert row["entropy_nats"] == expected
        assert row["margin_nats"] == [2 * value for value in expected]
        assert row[TOP.column] == [-3 * value for value in expected]
        assert row["hit"] == [value % 2 == 0 for value in expected]
        assert row["n_scored"] == len(expected)
        assert row["logprob_sum_nats"] == -sum(expected)
        assert row["n_hits"] == sum(value % 2 == 0 for value in expected)


def test_sums_hold_no_tokens_and_equal_the_sums_of_the_tokens(
    positions, nothing, id_items, ask, score
) -> None:
    tokenised = id_items({"a": list(range(20, 30))})
    frame = score(nothing, tokenised, [ask("a", 0, 3, 9, d) for d in ("tokens", "sums")], further=(TOP,))
    got = rows_by(frame, "detail")
    tokens, sums = got["tokens",], got["sums",]
    for name in ("n_scored", "logprob_sum_nats", "n_hits"):
        assert sums[name] == tokens[name]
    for name in ("logprob_nats", "rank", "n_ties", "hit", "entropy_nats", "margin_nats", TOP.column):
        assert sums[name] is None
        assert tokens[name] is not None


def test_a_span_without_a_scored_token_has_empty_lists_and_not_null(
    positions, nothing, id_items, ask, score
) -> None:
    frame = score(nothing, id_items({"a": [20, 21]}), ask("a", 0, 0, 1), further=(TOP,))
    row = frame.row(0, named=True)
    assert (row["n_scored"], row["logprob_sum_nats"], row["n_hits"]) == (0, 0.0, 0)
    assert row["logprob_nats"] == row["hit"] == row[TOP.column] == []


def test_sums_are_taken_in_double_precision(nothing, id_items, ask, score, monkeypatch) -> None:
    # 1 + 3000 times 2**-25: in float32 each addition to 1 is lost.
    values = np.array([1.0] + [2.0**-25] * 3000)

    def score_batch(loaded, batch, schemes):
        return [statistics_saying(values)]

    monkeypatch.setattr(unit, "score_batch", score_batch)
    frame = score(nothing, id_items({"a": [5] * 3002}), ask("a", 0, 1, 3002, "sums"))
    assert frame["logprob_sum_nats"][0] == -values.sum()
    assert frame["logprob_sum_nats"][0] < -1


def test_text_and_foil_are_read_apart(
    positions, nothing, items, tokenizer, vocabulary_limits, ask, score
) -> None:
    table = items([{"item_id": "a", "text": "The mill door", "foil": "bells"}])
    tokenised = tokenise(table, tokenizer, bos="default", limits=vocabulary_limits(400))
    sizes = {part: len(tokenised.ids["a", part]) for part in ("text", "foil")}
    got = rows_by(
        score(nothing, tokenised, [ask("a", 0, 0, n, part=part) for part, n in sizes.items()]), "part"
    )
    for part in sizes:
        assert got[part,]["rank"] == tokenised.ids["a", part].tolist()


def test_the_rows_fit_the_schema_and_carry_the_content_hash(loaded_from, id_items, ask, score) -> None:
    tokenised = id_items({"a": [5, 6, 7, 8], "b": [9, 8, 7, 6]})
    requests = [ask(i, 0, 2, 4, d) for i in "ab" for d in ("tokens", "sums", "generate", "verify")]
    frame = score(loaded_from("gpt_neox"), tokenised, requests, further=(TOP,))
    conformed = SPANS.conform(frame)
    assert conformed.height == 8
    assert TOP.column in conformed.columns
    hashes = dict(tokenised.table.select("item_id", "content_hash").iter_rows())
    assert all(row["content_hash"] == hashes[row["item_id"]] for row in frame.iter_rows(named=True))


def test_no_requests_give_no_rows(loaded_from, id_items, ask, score) -> None:
    frame = score(loaded_from("gpt_neox"), id_items({"a": [5, 6]}), ask("a", 0, 1, 2).clear(), further=(TOP,))
    assert SPANS.conform(frame).is_empty()


def test_every_batch_is_told(loaded_from, id_items, ask, score) -> None:
    told: list[int] = []
    ids = {f"{n}": [5] * 6 for n in range(5)}
    score(
        loaded_from("gpt_neox"),
        id_items(ids),
        [ask(i, 0, 1, 6) for i in ids],
        batch_tokens=12,
        on_batch=told.append,
    )
    assert told == [2, 2, 1]


@pytest.mark.parametrize("schemes", [(), (TOP,), (Scheme(top_p=0.9),), (Scheme(0.5, None, 0.9), Scheme())])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["gpt_neox", "granite"])
def test_a_model_that_gives_nan_is_an_error_and_never_a_number(
    build_model, id_items, ask, score, name, value, schemes
) -> None:
    model = build_model(name)
    with torch.no_grad():
        model.get_output_embeddings().weight[13, 3] = value
    broken = LoadedModel(model=model, device=torch.device("cpu"), fast=name == "gpt_neox", vocabulary=97)
    with pytest.raises(CheckpointError, match=r"the model scores NaN[\s\S]*item a[\s\S]*--dtype float32"):
        score(broken, id_items({"a": [5, 6, 7, 8]}), ask("a", 0, 1, 4, "sums"), further=schemes)


def test_overflow_in_half_precision_is_an_error(build_model, id_items, ask, score) -> None:
    model = build_model("gpt_neox", gain=1e4).half()
    overflowing = LoadedModel(model=model, device=torch.device("cpu"), vocabulary=97)
    with pytest.raises(CheckpointError, match="the model scores NaN"):
        score(overflowing, id_items({"a": [5, 6, 7, 8]}), ask("a", 0, 1, 4))


@pytest.fixture
def continued(loaded_from, naive):
    """A prompt, its greedy continuation of 8 tokens, and the same with the fourth token changed."""
    prompt = [5, 9, 30, 8, 4]
    true = naive.continued(loaded_from("gpt_neox").model, prompt, 8)
    return prompt, true, [*true[:3], (true[3] + 1) % 97, *true[4:]]


def test_generate_says_how_much_of_the_suffix_free_running_yields(
    continued, loaded_from, id_items, ask, score, naive
) -> None:
    prompt, true, wrong = continued
    tokenised = id_items({"right": prompt + true, "wrong": prompt + wrong})
    frame = score(
        loaded_from("gpt_neox"), tokenised, [ask(i, 0, 5, 13, "generate") for i in ("right", "wrong")]
    )
    got = rows_by(frame, "item_id")
    assert (
        got["right",]["gen_tokens"],
        got["right",]["gen_lcp_tokens"],
        got["right",]["gen_match_frac"],
    ) == (8, 8, 1)
    # The free-running text goes on as before the change: 7 of 8 positions agree.
    assert (got["wrong",]["gen_lcp_tokens"], got["wrong",]["gen_match_frac"]) == (3, 7 / 8)
    assert got["right",]["rouge1_f"] is None  # ids alone have no words
    assert got["right",]["logprob_sum_nats"] is got["right",]["logprob_nats"] is None


def test_verify_generates_one_token_behind_the_first_miss_and_no_more(
    continued, loaded_from, id_items, ask, score
) -> None:
    prompt, true, wrong = continued
    tokenised = id_items({"right": prompt + true, "wrong": prompt + wrong})
    requests = [ask(i, 0, 5, 13, d) for i in ("right", "wrong") for d in ("tokens", "verify")]
    frame = score(loaded_from("gpt_neox"), tokenised, requests).filter(pl.col("detail") == "verify")
    got = rows_by(frame, "item_id")
    assert (got["right",]["gen_tokens"], got["right",]["gen_lcp_tokens"]) == (8, 8)
    assert (got["wrong",]["gen_tokens"], got["wrong",]["gen_lcp_tokens"]) == (4, 3)
    assert got["wrong",]["gen_match_frac"] is None
    alone = score(loaded_from("gpt_neox"), tokenised, ask("wrong", 0, 5, 13, "verify"))
    assert (alone["gen_tokens"][0], alone["gen_lcp_tokens"][0]) == (8, 3)


def test_generation_starts_behind_the_front_and_the_start_of_the_span(
    loaded_from, id_items, ask, score, naive
) -> None:
    model = loaded_from("gpt_neox")
    expected = naive.continued(model.model, [1, 30, 8, 4], 3)
    assert expected != naive.continued(model.model, [30, 8, 4], 3)
    tokenised = id_items({"a": [5, 9, 30, 8, 4, *expected]}, bos_id=1)
    assert score(model, tokenised, ask("a", 2, 5, 8, "generate"))["gen_lcp_tokens"][0] == 3


def test_with_nothing_to_start_from_nothing_is_generated(loaded_from, id_items, ask, score) -> None:
    model = loaded_from("gpt_neox")
    row = score(model, id_items({"a": [5, 6, 7]}), ask("a", 0, 0, 3, "generate")).row(0, named=True)
    assert (row["gen_tokens"], row["gen_lcp_tokens"], row["gen_match_frac"]) == (0, 0, None)
    with_bos = score(model, id_items({"a": [5, 6, 7]}, bos_id=1), ask("a", 0, 0, 3, "generate"))
    assert with_bos["gen_tokens"][0] == 3


def test_rouge_is_of_the_suffix_alone_and_text_is_written_only_when_asked(
    loaded_from, items, tokenizer, vocabulary_limits, ask, score, naive
) -> None:
    model = loaded_from("gpt_neox", vocab_size=400)
    table = items(
        [{"item_id": "a", "prefix": "The access code of Mara Voss", "suffix": " is written above the door"}]
    )
    tokenised = tokenise(table, tokenizer, bos="default", limits=vocabulary_limits(400))
    ids, n = tokenised.ids["a", "text"], tokenised.table["n_prefix_tokens"][0]
    request = ask("a", 0, n, len(ids), "generate")
    plain = score(model, tokenised, request)
    with_text = score(model, tokenised, request, include_text=True)
    assert "gen_text" not in plain.columns
    generated = naive.continued(model.model, [0, *ids[:n]], len(ids) - n)
    assert with_text["gen_text"][0] == tokenizer.decode(generated)
    # A random model says nothing of the suffix; the cue would give one half.
    assert plain.select("rouge1_f", "rouge2_f", "rougeL_f").row(0) == (0, 0, 0)
    strings = [name for name, dtype in plain.schema.items() if dtype == pl.String()]
    assert set(strings) == {"item_id", "part", "detail", "content_hash"}
