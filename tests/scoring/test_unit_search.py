"""A unit that searches: what the search is given, what is written of it, and what stays out of the unit.

The search itself stands in by a fake that keeps what it was asked; the last tests take the real one.
"""

import gzip
import zlib

import numpy as np
import polars as pl
import pytest
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring import search as search_room
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.generate import Continuation, greedy
from memprobe.scoring.search import Found
from memprobe.scoring.tokenise import tokenise
from memprobe.scoring.unit_search import Warm, search_unit
from memprobe.tables.requests import Search, Unit
from memprobe.tables.sealed import seal, unseal
from memprobe.tables.spans import SPANS

IDS = [11, 12, 13, 14, 15, 16, 17, 18]
USUAL = Search()
PROMPT = np.array([90, 91, 92], dtype=np.int64)
HIT = Found(PROMPT, True, 500, 40, 0.5, None, (3, None), 1, False)
MISS = Found(None, False, 500, None, 2.5, 40, (None, None), 4, None)


@pytest.fixture
def searched(loaded_from, id_items, ask, monkeypatch):
    """Return a caller of `search_unit` on ids 11 to 18, and what the fake search was given."""
    given: dict = {}

    def fake(loaded, target, search, **more):
        given.update(more, target=target, search=search)
        return given["result"]

    monkeypatch.setattr(search_room, "search_prompt", fake)

    def call(result=HIT, span=(0, 0, 8), *, search=USUAL, bos_id=None, name="c-u", **more) -> dict:
        given["result"] = result
        items = id_items({"a": IDS}, bos_id=bos_id)
        unit = Unit(ask("a", *span, search.key), (), search)
        frame = search_unit(loaded_from("gpt_neox"), items, unit, name=name, **more)
        SPANS.conform(frame)
        return frame.row(0, named=True) | given

    return call


def test_the_search_gets_the_strings_around_the_prompt(searched) -> None:
    row = searched(span=(2, 4, 7), bos_id=1)
    # BOS and what lies before `start` are the head; from there to `score_from` the tail; then the target.
    assert row["head"].tolist() == [1, 11, 12]
    assert row["tail"].tolist() == [13, 14]
    assert row["target"].tolist() == [15, 16, 17]
    plain = searched()
    assert (plain["head"].tolist(), plain["tail"].tolist(), plain["target"].tolist()) == ([], [], IDS)
    assert plain["warm"] is None
    assert plain["survives"] is None


def test_the_row_says_what_was_asked_and_what_was_found(searched) -> None:
    row = searched()
    assert (row["item_id"], row["part"], row["start"], row["score_from"], row["stop"]) == (
        "a",
        "text",
        0,
        0,
        8,
    )
    assert row["detail"] == Search().key
    found = row["found"]
    wanted = {
        "prompt_tokens": 3,
        "verified": True,
        "censored_at_tokens": None,
        "evaluations_used": 500,
        "evaluations_to_best": 40,
        "final_ce_nats": 0.5,
        "prompt_tokens_by_seed": [3, None],
        "n_refuted": 1,
        "prompt_roundtrip": False,
        "warm_from_step": None,
        # Without a tokenizer the target has no text.
        "target_bytes": None,
        "gzip_ratio": None,
    }
    assert wanted.items() <= found.items()
    assert row["n_scored"] is None


def test_a_failure_has_no_length_and_no_seal_but_the_longest_that_was_tried(searched) -> None:
    found = searched(MISS)["found"]
    assert (found["prompt_tokens"], found["prompt_sealed"], found["verified"]) == (None, None, False)
    assert found["censored_at_tokens"] == 40


def test_a_prompt_that_decoding_did_not_confirm_is_none(searched) -> None:
    unsure = Found(PROMPT, False, 500, 40, 0.5, 9, (None,), 1, None)
    found = searched(unsure)["found"]
    assert (found["prompt_tokens"], found["censored_at_tokens"], found["prompt_sealed"]) == (None, 9, None)


def test_the_prompt_is_sealed_with_the_target_and_in_the_open_only_with_text(searched) -> None:
    found = searched()["found"]
    assert found["prompt_ids"] is None
    assert unseal(found["prompt_sealed"], np.array(IDS), "c-u").tolist() == PROMPT.tolist()
    shown = searched(include_text=True)["found"]
    assert shown["prompt_ids"] == PROMPT.tolist()
    assert shown["prompt_sealed"] == found["prompt_sealed"]
    assert searched(name="c-v")["found"]["prompt_sealed"] != found["prompt_sealed"]


def test_a_warm_start_is_opened_and_told(searched) -> None:
    before = Warm(seal(PROMPT, np.array(IDS), "b-u"), "b-u", step=40)
    row = searched(warm=before)
    assert row["warm"].tolist() == PROMPT.tolist()
    assert row["found"]["warm_from_step"] == 40


@pytest.mark.parametrize(
    ("asked", "span", "longest"),
    [
        # The context holds 96; the target's last token is predicted, never read.
        (None, (0, 0, 8), 40),  # five times 8
        (12, (0, 0, 8), 12),
        (500, (0, 0, 8), 96 - 7),
        (500, (2, 4, 8), 96 - 2 - 2 - 3),
    ],
)
def test_the_longest_prompt_is_what_is_asked_and_what_fits(searched, asked, span, longest) -> None:
    row = searched(span=span, search=Search(max_prompt_tokens=asked))
    assert row["search"].max_prompt_tokens == longest


def test_no_room_for_one_token_is_refused(loaded_from, id_items, ask) -> None:
    items = id_items({"a": [5] * 97})
    unit = Unit(ask("a", 0, 0, 97, Search().key), (), Search())
    with pytest.raises(
        CheckpointError, match="no room for a prompt: 96 tokens around it, the context holds 96"
    ):
        search_unit(loaded_from("gpt_neox"), items, unit, name="c-u")


def test_compressors_see_the_bytes_of_the_target(
    loaded_from, items, tokenizer, vocabulary_limits, ask, monkeypatch
) -> None:
    text = "Über die Brücke, über die Brücke, über die Brücke. The miller rang."
    tokenised = tokenise(
        items([{"item_id": "a", "text": text}]), tokenizer, bos="none", limits=vocabulary_limits(400)
    )
    monkeypatch.setattr(search_room, "search_prompt", lambda *_, **__: HIT)
    n = len(tokenised.ids["a", "text"])
    unit = Unit(ask("a", 0, 0, n, Search().key), (), Search())
    found = search_unit(loaded_from("gpt_neox"), tokenised, unit, name="c-u")["found"][0]
    raw = text.encode()
    assert found["target_bytes"] == len(raw) > len(text)
    assert found["gzip_ratio"] == len(raw) / len(gzip.compress(raw, 9, mtime=0))
    assert found["zlib_ratio"] == len(raw) / len(zlib.compress(raw, 9))
    # RFC 1952: ten bytes in front and eight behind; RFC 1950: two and four.
    assert len(raw) / found["gzip_ratio"] - len(raw) / found["zlib_ratio"] == pytest.approx(12, abs=1e-9)


def test_a_prompt_survives_where_decoding_and_encoding_give_it_back(
    loaded_from, items, tokenizer, vocabulary_limits, ask, monkeypatch
) -> None:
    tokenised = tokenise(
        items([{"item_id": "a", "text": "The bells"}]), tokenizer, bos="none", limits=vocabulary_limits(400)
    )
    given = {}
    monkeypatch.setattr(search_room, "search_prompt", lambda *_, **more: given.update(more) or HIT)
    unit = Unit(ask("a", 0, 0, 2, Search().key), (), Search())
    search_unit(loaded_from("gpt_neox"), tokenised, unit, name="c-u")
    whole = tokenizer("the bells", add_special_tokens=False)["input_ids"]
    letters = [tokenizer(each, add_special_tokens=False)["input_ids"][0] for each in "the"]
    assert given["survives"](np.array(whole))
    # Letter by letter: encoding joins them.
    assert not given["survives"](np.array(letters))
    assert not set(given["allowed"].tolist()) & {tokenizer.bos_token_id, tokenizer.eos_token_id}


# The real search.


def test_what_the_search_finds_really_decodes_to_the_target(loaded_from, id_items, ask) -> None:
    loaded = loaded_from("gpt_neox")
    # Two tokens that the model says after some token, so that a prompt of one is known to do.
    told = greedy(loaded, [Continuation(np.array([33]), np.array([0, 0]), 2)])[0]
    items = id_items({"a": told.tolist()})
    search = Search(budget=400)
    unit = Unit(ask("a", 0, 0, 2, search.key), (), search)
    steps = []
    with scoring_mode():
        frame = search_unit(loaded, items, unit, name="c-u", on_step=steps.append)
    found = frame["found"][0]
    assert found["verified"]
    prompt = unseal(found["prompt_sealed"], told, "c-u")
    assert len(prompt) == found["prompt_tokens"] == 1
    assert greedy(loaded, [Continuation(prompt, told, 2)])[0].tolist() == told.tolist()
    assert found["evaluations_used"] <= 400
    assert steps
    assert steps[-1].evaluations_used <= steps[-1].budget == 400


def test_a_model_loaded_while_scoring_takes_part_in_gradients(saved, at) -> None:
    from memprobe.scoring.load import LoadOptions, load

    with scoring_mode():
        loaded = load(at(saved("gpt_neox")), LoadOptions())
    weight = loaded.model.get_input_embeddings().weight
    assert not weight.is_inference()
    assert not any(each.requires_grad for each in loaded.model.parameters())
    one_hot = torch.nn.functional.one_hot(torch.tensor([[3, 4]]), weight.shape[0]).float().requires_grad_()
    loaded.model(inputs_embeds=one_hot @ weight).logits.sum().backward()
    assert float(one_hot.grad.abs().sum()) > 0
    assert loaded.context_tokens == 96


def test_a_unit_without_a_search_is_refused(loaded_from, id_items, ask) -> None:
    with pytest.raises(ValueError, match="has no search"):
        search_unit(loaded_from("gpt_neox"), id_items({"a": IDS}), Unit(ask("a", 0, 0, 8), ()), name="x")


def test_an_empty_frame_keeps_the_schema() -> None:
    assert SPANS.empty()["found"].dtype == pl.Struct(SPANS.columns["found"].dtype.fields)
