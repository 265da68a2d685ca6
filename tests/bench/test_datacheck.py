"""What `memprobe run` would say of item files: the check and the run must agree."""

import pytest

import memprobe
from memprobe.bench.datacheck import _reasons, check_data
from memprobe.errors import InputError, ItemError, SuiteError
from memprobe.options import RunOptions


@pytest.fixture
def check(make, tmp_path, tiny):
    """Return a checker of rows: check(rows, model=True, probes=["recall"])."""

    def look(rows, *, model=True, tokenizer=False, probes=(), settings=(), **more):
        file = make.items(tmp_path / "i.jsonl", rows)
        given = {"data": (str(file),), "model": (tiny.model,) if model else ()}
        given |= {"tokenizer": tiny.model} if tokenizer else {}
        return check_data(RunOptions(**given, **more), probes=probes, settings=settings)

    return look


def whats(checked):
    return checked.findings.select("line", "item_id", "what").rows()


def test_sound_items_have_no_findings_and_lengths_in_tokens(check, make) -> None:
    checked = check(make.rows(24))
    assert checked.findings.is_empty()
    (tokens,) = checked.tokens
    # One token per byte: `Zanzibar code of person 00: ` has 28, `quokka-00000.` has 13.
    assert (tokens.model, tokens.n_tokens["max"]) == ("main", 41)
    assert (tokens.n_prefix_tokens["min"], tokens.n_suffix_tokens["max"]) == (28, 13)
    assert (tokens.n_borders, tokens.n_boundary_shifts) == (24, 0)
    assert (tokens.context_tokens, tokens.n_beyond_context) == (96, 0)
    fits = {fit.probe: (fit.n_measured, fit.n_unfit) for fit in tokens.probes}
    assert fits["recall"] == (24, 0)
    assert fits["recognition"] == (12, 0)


def test_lengths_need_a_tokenizer_and_faults_do_not(check) -> None:
    checked = check([{"text": "a"}, {"text": ""}], model=False)
    assert checked.tokens == ()
    assert whats(checked) == [(2, None, "empty")]
    assert (checked.n_rows, checked.n_bad_rows) == (2, 1)


def test_a_tokenizer_alone_knows_neither_context_nor_vocabulary(check) -> None:
    checked = check([{"text": "x" * 200}, {"input_ids": [1, 300]}], model=False, tokenizer=True)
    assert checked.findings.is_empty()
    assert checked.tokens[0].n_tokens["max"] == 200
    assert checked.tokens[0].context_tokens is None


def test_what_does_not_fit_the_context_is_a_finding_unless_a_probe_is_named(check) -> None:
    # A context of 96 takes 97 tokens: the last is predicted, never read.
    rows = [{"item_id": "fits", "text": "x" * 97}, {"item_id": "long", "text": "x" * 98}]
    assert whats(check(rows)) == [(2, "long", "has 97 tokens to read, the model's context holds 96")]
    named = {"settings": ["recall.prefix_tokens=5", "recall.suffix_tokens=5"]}
    assert check(rows, probes=["recall"], **named).findings.is_empty()
    assert check(rows, **named).findings.is_empty()
    assert whats(check(rows, probes=["recall"])) == [
        (2, "long", "recall: has 97 tokens to read, the model's context holds 96")
    ]


def test_ids_outside_the_vocabulary_are_findings(check) -> None:
    checked = check([{"input_ids": [1, 255]}, {"item_id": "out", "input_ids": [256, 300, 2]}])
    assert whats(checked) == [(2, "out", "holds the id 300, the model's vocabulary has 256")]


def test_items_that_a_named_probe_refuses_are_findings_of_one_kind(check) -> None:
    rows = [{"item_id": f"i{n}", "text": "x" * n} for n in (5, 6, 30)]
    checked = check(rows, probes=["recall"], settings=["recall.prefix_tokens=4", "recall.suffix_tokens=10"])
    assert [each[:2] for each in whats(checked)] == [(1, "i5"), (2, "i6")]
    assert checked.findings["kind"].n_unique() == 1
    (fit,) = checked.tokens[0].probes
    assert (fit.n_measured, fit.n_unfit) == (1, 2)
    assert fit.reasons == {"has 1 to 2 tokens after the prefix, suffix_tokens is 10": 2}


def test_a_probe_that_can_measure_nothing_says_why(check) -> None:
    checked = check([{"text": "abc"}], probes=["recognition"])
    assert whats(checked) == [(None, None, "recognition needs foil, which no item has")]
    checked = check([{"text": "abc"}])
    assert checked.findings.is_empty()
    fits = {fit.probe: fit for fit in checked.tokens[0].probes}
    assert fits["recognition"].reasons == {"needs foil, which no item has": 0}


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "abc"}],
        [{"text": ""}, {"text": "abc"}],
        [{"text": "x" * 98}],
        [{"input_ids": [1, 2, 256]}],
        [{"item_id": "a", "text": "abc"}, {"item_id": "a", "text": "abd"}],
        [{"text": "abc", "step": 1}],
        [{"prefix": "a", "suffix": "b"}, {"prefix": "a"}],
        [{"text": "a"}],
    ],
)
def test_the_check_and_the_run_agree(rows, check, tiny, tmp_path) -> None:
    clean = check(rows, probes=["recall"]).findings.is_empty()
    try:
        memprobe.run(
            probes=["recall"],
            model=tiny.model,
            data=tmp_path / "i.jsonl",
            steps="20",
            threads=1,
            out=tmp_path / "r",
        )
        ran = True
    except ItemError:
        ran = False
    assert clean == ran


def test_text_is_shown_only_when_asked_for(check, make) -> None:
    quiet = check(make.rows(3))
    assert "Zanzibar" not in str(quiet.as_json())
    assert "Zanzibar" in str(check(make.rows(3), include_text=True).as_json()["samples"])


@pytest.mark.parametrize(
    ("more", "error", "told"),
    [
        ({"probes": ["recall"], "model": False}, InputError, "there is no tokenizer"),
        ({"settings": ["recall.suffix_tokens=2"], "model": False}, InputError, "there is no tokenizer"),
        ({"probes": ["recal"]}, SuiteError, "did you mean `recall`?"),
        ({"probes": ["recall"], "settings": ["recall.suffix=2"]}, SuiteError, "unknown setting `suffix`"),
        ({"limit": 0}, InputError, "--limit is 0"),
    ],
)
def test_a_check_that_cannot_be_made_says_why(more, error, told, check) -> None:
    with pytest.raises(error, match=told):
        check([{"text": "a"}], **more)


def test_reasons_that_differ_in_their_first_number_are_counted_together() -> None:
    import polars as pl

    reasons = ["has 1 token, k is 50", "has 12 tokens, k is 50", "has 3 tokens, k is 9", "is bad", "7 of 8"]
    assert _reasons(pl.Series(reasons)) == {
        "has 1 to 12 tokens, k is 50": 2,
        "has 3 tokens, k is 9": 1,
        "is bad": 1,
        "7 of 8": 1,
    }
