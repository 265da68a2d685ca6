"""SORT through the whole pipeline: real prompts and units, answers by hand; what is written, said, refused.

One model's head is set so that all its logits are known; elsewhere the answer to each prompt is read off the
prompt's own text, so that which segment is shown first is what the prompt really shows.
"""

import json
import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import memprobe
from memprobe.pipeline.again import measure_again
from memprobe.pipeline.question import merge
from memprobe.scoring import unit
from memprobe.tables.prompts import read_prompts
from memprobe.tables.store import RunStore

# A head in float32 against float64 by hand.
TOL = 1e-6
# Sums of some dozen float32 log-probabilities, batched and with a shared prefix, against prompts read alone.
READ_TOL = 1e-4
# Sums of a few float64 logarithms.
EXACT = 1e-12
TEMPLATE = """
[[prompt]]
name = "short"
in_context = "{excerpt}|{first}|{second}"
parametric = "-|{first}|{second}"
stem = "Segment"

[[prompt]]
name = "longer"
in_context = "Text: {excerpt}|{first}|{second}"
parametric = "Text: -|{first}|{second}"
stem = "Segment"
"""


def trial(n: int, **more) -> dict[str, object]:
    """Trial n of excerpt n // 2: the even ones of the near bin, the odd ones of the far bin."""
    words = [f"{letter}{n // 2}" for letter in "abcdefgh"]
    far = n % 2
    return {
        "item_id": f"t{n}",
        "text": " ".join(words),
        "segment_1": " ".join(words[:2]),
        "segment_2": " ".join(words[6:8] if far else words[3:5]),
        "source_id": f"book{n // 4}",
        "excerpt_id": str(n // 2),
        "doc_id": f"book{n // 4}/8/{n // 2}",
        "excerpt_words": 8,
        "segment_words": 2,
        "distance_words": 6 if far else 3,
        "distance_bin": far,
        "excerpt_start_frac": (n // 2 % 2) / 2,
        "earlier_first": n % 4 < 2,
        "split": "test",
        "colour": "red",
    } | more


@pytest.fixture(scope="module")
def root(tmp_path_factory, make):
    """Heads that give ln 60 to `A`, ln 20 to `B`, and 0 to the other 254 bytes; at step 9: 0 to all."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    root = tmp_path_factory.mktemp("sort")
    tokenizer = make.tokenizer()
    for step, (a, b) in {3: (60.0, 20.0), 9: (1.0, 1.0)}.items():
        config = GPTNeoXConfig(
            vocab_size=256,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=256,
        )
        torch.manual_seed(step)
        model = GPTNeoXForCausalLM(config)
        with torch.no_grad():
            norm, head = model.gpt_neox.final_layer_norm, model.get_output_embeddings().weight
            norm.weight.zero_()
            norm.bias.copy_(torch.eye(16)[0])
            head.zero_()
            for label, mass in (("A", a), ("B", b)):
                head[tokenizer.convert_tokens_to_ids(label), 0] = math.log(mass)
        model.save_pretrained(root / "main" / f"step{step}")
    tokenizer.save_pretrained(root / "main")
    (root / "mine.toml").write_text(TEMPLATE)
    make.items(root / "trials.jsonl", [trial(n) for n in range(8)])
    return root


@pytest.fixture
def ask(root, tmp_path):
    """Return `memprobe.run` of sort on the last checkpoint, with the short template."""

    def call(*settings: str, **changes):
        given = {
            "model": str(root / "main"),
            "data": str(root / "trials.jsonl"),
            "steps": "3",
            "threads": 1,
            "out": tmp_path / "run",
        }
        asked = (f"sort.prompt_file={root / 'mine.toml'}", *settings)
        return memprobe.run(probes="sort", settings=asked, **(given | changes))

    return call


# Log-odds of the first label when the earlier segment is shown first, and when the later one is, by trial;
# in context, then from memory. Right: their difference is positive.
BY_HAND = {
    "t0": ((2.0, -1.0), (0.5, 1.0)),  # right, wrong
    "t1": ((3.0, 1.0), (1.0, 1.0)),  # right, a tie
    "t2": ((1.0, -2.0), (-1.0, -2.0)),  # right, right
    "t3": ((-1.0, 2.0), (1.0, 2.0)),  # wrong, wrong
    "t4": ((0.5, -0.5), (2.0, 1.0)),  # right, right
    "t5": ((0.5, -0.5), (0.0, 0.5)),  # right, wrong
    "t6": ((2.0, 1.0), (0.0, -1.0)),  # right, right
    "t7": ((-2.0, -1.0), (1.0, 1.5)),  # wrong, wrong
}


@pytest.fixture
def answered(monkeypatch, root):
    """Answer each prompt by what its text shows, with half of the mass on the labels."""
    from memprobe.items import read_items

    rows = read_items([str(root / "trials.jsonl")]).table
    texts = {row["item_id"]: row for row in rows.iter_rows(named=True)}

    def odds(item: str, prompt: str) -> float:
        row = texts[item]
        excerpt, first, second = prompt.removesuffix("\nSegment").split("|")
        assert {first, second} == {row["segment_1"], row["segment_2"]}
        assert excerpt.removeprefix("Text: ") in (row["text"], "-")
        answers = BY_HAND[item][excerpt.endswith("-")]
        # The longer template is always wrong.
        sign = -1 if prompt.startswith("Text: ") else 1
        return sign * answers[0 if first == row["segment_1"] else 1]

    def answer(loaded, tokenised, requests, *, batch_tokens, on_batch=lambda _: None):
        found = []
        for row in requests.iter_rows(named=True):
            prompt = tokenised.decode(tokenised.ids[row["item_id"], row["part"]].tolist())
            first = 0.5 / (1 + math.exp(-odds(row["item_id"], prompt)))
            found.append({**row, "choice_logprob_nats": [math.log(first), math.log(0.5 - first)]})
        return found

    monkeypatch.setattr(unit, "choice_rows", answer)
    return answer


def found(run, metric: str, **where) -> dict[str | None, dict[str, object]]:
    rows = run.summary.filter(pl.col("metric") == metric, pl.col("group").is_null())
    return {row["condition"]: row for row in rows.iter_rows(named=True)}


# Answers by hand.


def test_accuracy_bias_gap_and_mass_are_those_of_the_answers_set_by_hand(ask, answered) -> None:
    run = ask()
    accuracy = found(run, "accuracy_frac")
    context, memory = (accuracy[f"condition={each};mode=prompt"] for each in ("in_context", "parametric"))
    assert context["estimate"] == 6 / 8
    assert memory["estimate"] == 3.5 / 8
    assert (context["n_items"], context["n_clusters"]) == (8, 4)
    # Means of the excerpts in context: 1, 1/2, 1, 1/2. With one more of 0, or of 1, and weights at random.
    weights = np.random.default_rng(0).dirichlet(np.ones(5), 200_000)
    ends = (np.quantile(weights @ [1, 0.5, 1, 0.5, end], at) for end, at in ((0, 0.025), (1, 0.975)))
    assert (context["ci_low"], context["ci_high"]) == pytest.approx(tuple(ends), abs=2e-3)
    assert context["ci_method"] == "pseudo-document-few"
    gap = found(run, "gap_frac")["mode=prompt"]
    assert gap["estimate"] == pytest.approx(2.5 / 8, abs=EXACT)
    # First labels less second ones in context: t1 and t6 name the first twice, t7 the second; of 16.
    bias = found(run, "position_bias_frac")["condition=in_context;mode=prompt"]
    assert bias["estimate"] == pytest.approx(2 / 16, abs=EXACT)
    mass = found(run, "label_mass")["condition=parametric;mode=prompt"]
    assert mass["estimate"] == pytest.approx(0.5, abs=EXACT)
    near = accuracy["condition=in_context;mode=prompt;distance_bin=0"]
    assert (near["estimate"], near["ci_method"]) == (1.0, "wilson")
    table = run.table("sort").filter(pl.col("condition") == "in_context").sort("item_id")
    assert table["delta"].to_list() == pytest.approx([1.5, 1, 1.5, -1.5, 0.5, 0.5, 0.5, -0.5], abs=EXACT)
    assert table["position_bias"].to_list() == pytest.approx([0.5, 2, -0.5, 0.5, 0, 0, 1.5, -1.5], abs=EXACT)
    # Shown first in t0, t1, t4, t5: 2, 3, 0.5, 0.5 for it; shown last in the others: -2, 2, 1, -1 against it.
    assert table["presented_correct"].to_list() == [1, 1, 1, 0, 1, 1, 0, 1]


def test_cells_have_exact_tests_and_the_share_of_the_published_presentation(ask, answered) -> None:
    cells = ask().table("sort_accuracy").filter(pl.col("condition") == "in_context")
    whole = cells.filter(
        pl.all_horizontal(pl.col("excerpt_words", "segment_words", "distance_bin", "position_bin").is_null())
    )
    assert whole.select("accuracy_frac", "presented_accuracy_frac", "p_binomial").rows() == [
        (6 / 8, 6 / 8, None)
    ]
    far = cells.filter(pl.col("distance_bin") == 1, pl.col("excerpt_words") == 8)
    # Two of four right: 2 (6 + 4 + 1) / 16, at most 1.
    assert far.select("accuracy_frac", "p_binomial", "n_trials").rows() == [(2 / 4, 1.0, 4)]
    near = cells.filter(pl.col("distance_bin") == 0, pl.col("excerpt_words") == 8)
    assert near["p_binomial"].to_list() == pytest.approx([2 / 16], abs=EXACT)


def test_the_template_that_is_best_in_validation_is_taken_and_its_trials_do_not_count(
    ask, answered, root, make, tmp_path
) -> None:
    """Both templates are asked; the longer one is wrong wherever the short one is right."""
    rows = [trial(n, split="validation" if n in (3, 7) else "test") for n in range(8)]
    data = make.items(tmp_path / "split.jsonl", rows)
    run = ask("sort.select=best", 'sort.conditions=["in_context"]', data=str(data))
    # Both validation trials are wrong by the short template, so right by the longer one.
    assert run.table("sort_prompts").select("prompt_id", "validation_accuracy_frac", "chosen").rows() == [
        ("short", 0.0, False),
        ("longer", 1.0, True),
    ]
    table = run.table("sort")
    assert set(table["item_id"]) == {f"t{n}" for n in (0, 1, 2, 4, 5, 6)}
    assert set(table["prompt_id"]) == {"longer"}
    assert found(run, "accuracy_frac")["condition=in_context;mode=prompt"]["estimate"] == 0


# A real model whose logits are known.


def test_a_model_that_always_says_the_same_label_is_at_chance_and_all_bias(ask) -> None:
    run = ask()
    table = run.table("sort")
    assert table["delta"].to_list() == [0.0] * 16
    assert set(table["correct"]) == {0.5}
    assert table["position_bias"].to_list() == pytest.approx([math.log(3)] * 16, abs=TOL)
    assert table["label_mass"].to_list() == pytest.approx([80 / 334] * 16, abs=TOL)
    assert found(run, "position_bias_frac")["condition=parametric;mode=prompt"]["estimate"] == 1
    assert found(run, "accuracy_frac")["condition=parametric;mode=prompt"]["estimate"] == 0.5


def test_a_checkpoint_that_does_not_answer_is_warned_about(ask, cli) -> None:
    run = ask(steps=None)
    (warning,) = [each for each in run.manifest["warnings"] if "in_context" in each]
    assert warning.startswith("main, sort: condition=in_context;mode=prompt: the labels hold 0.0078 of")
    assert "below 0.1 at 1 of 2 checkpoints" in warning
    shown = cli("summary", run.path)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "accuracy_frac" in shown.out
    assert " condition=parametric;mode=prompt" in shown.out


def test_labels_in_the_content_free_prompt_are_taken_off_the_bias(ask) -> None:
    table = ask("sort.content_free=true").table("sort")
    assert table["content_free_nats"].to_list() == pytest.approx([math.log(3)] * 16, abs=TOL)
    assert table["position_bias"].to_list() == pytest.approx([0] * 16, abs=TOL)


def test_every_delta_is_what_the_model_alone_says_of_each_prompt(ask, root, make, tmp_path) -> None:
    """Slow recomputation: each prompt written out here, read alone, with transformers' own logits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = make.sequence(tmp_path / "base", (0,), tokenizer=make.tokenizer())
    table = ask("sort.mode=both", model=str(base), steps=None).table("sort")
    model = AutoModelForCausalLM.from_pretrained(base / "step0")
    tokenizer = AutoTokenizer.from_pretrained(base)
    a, b = (tokenizer.convert_tokens_to_ids(label) for label in "AB")

    def logprobs(text: str) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0].double().log_softmax(-1)

    def odds(row: dict[str, object], excerpt: str, first: str, second: str) -> float:
        last = logprobs(f"{excerpt}|{row[first]}|{row[second]}\nSegment")[-1]
        return float(last[a] - last[b])

    def total(before: str, one: str, other: str) -> float:
        text = f"{before}{one} {other}"
        ids = tokenizer(text)["input_ids"]
        found = logprobs(text)[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist()
        if before:
            return sum(found[len(tokenizer(before)["input_ids"]) - 1 :])
        # Without BOS the first token of a text has no condition; so that both orders are about the same
        # tokens, the first of the second segment is left out too. A token is a byte.
        left_out = len(f"{one} ".encode()) - 1
        return sum(found[:left_out]) + sum(found[left_out + 1 :])

    texts = {f"t{n}": trial(n) for n in range(8)}
    for row in table.iter_rows(named=True):
        told = texts[row["item_id"]]
        inside, s1, s2 = row["condition"] == "in_context", told["segment_1"], told["segment_2"]
        if row["mode"] == "prompt":
            excerpt = told["text"] if inside else "-"
            ab = odds(told, excerpt, "segment_1", "segment_2")
            expected = (ab - odds(told, excerpt, "segment_2", "segment_1")) / 2
        else:
            before = f"{told['text']} " if inside else ""
            expected = total(before, s1, s2) - total(before, s2, s1)
        assert row["delta"] == pytest.approx(expected, abs=READ_TOL), row
        assert row["correct"] == (expected > 0)


# Likelihood.


def test_likelihood_needs_a_control_and_stands_only_beside_it(ask, make, tmp_path) -> None:
    alone = ask("sort.mode=likelihood")
    assert alone.summary.is_empty()
    assert [each for each in alone.manifest["warnings"] if "--control MODEL" in each]
    assert alone.table("sort")["delta"].null_count() == 0
    rows = [trial(n, exposures=n // 4) for n in range(8)]
    data = str(make.items(tmp_path / "dosed.jsonl", rows))
    run = ask("sort.mode=both", data=data, out=tmp_path / "both")
    likelihood = run.summary.filter(pl.col("condition").str.contains("mode=likelihood"))
    assert set(likelihood["metric"]) == {"accuracy_excess_frac"}
    assert likelihood["condition"].str.ends_with("control=never-trained").all()
    assert not [each for each in run.manifest["warnings"] if "--control" in each]


def test_a_control_model_is_compared_trial_by_trial(ask, root, make, tmp_path) -> None:
    control = make.sequence(tmp_path / "base", (0,), tokenizer=make.tokenizer())
    # Its context of 96 tokens is long enough for these trials.
    run = ask("sort.mode=both", control=str(control / "step0"), out=tmp_path / "both")
    last = run.summary.filter(pl.col("model") == "main")
    rows = last.filter(pl.col("condition").str.contains("mode=likelihood"), pl.col("group").is_null())
    assert set(rows["metric"]) == {"accuracy_excess_frac"}
    assert rows["n_items"].to_list()[0] == 8
    warned = [each for each in run.manifest["warnings"] if "likelihood mode" in each]
    assert warned == []


# What is written.


def test_a_run_is_measured_again_from_what_lies_there_and_repeated_from_its_suite(
    ask, answered, root, tmp_path
) -> None:
    run = ask()
    again = measure_again(RunStore(run.path))
    assert_frame_equal(again.summary, run.summary)
    for name in ("sort", "sort_accuracy"):
        assert_frame_equal(again.tables[name], run.table(name), check_row_order=False)
    # The templates are in the suite, so the file may go.
    suite = (run.path / "suite.toml").read_text()
    assert "mine.toml" not in suite
    assert "{excerpt}|{first}|{second}" in suite
    repeated = memprobe.run(run.path / "suite.toml", out=tmp_path / "again")
    assert_frame_equal(repeated.summary, run.summary)
    assert run.summary["signature"].str.len_chars().max() < 600


def test_templates_that_ship_are_written_into_what_repeats_a_run() -> None:
    suite, _ = merge(None, probes=["sort"])
    assert suite.entries[0].settings.prompts == read_prompts()[:1]


def test_no_text_leaves_the_items_and_the_users_columns_do(ask) -> None:
    run = ask("sort.mode=both")
    secret = b"a1 b1"
    for file in sorted(each for each in run.path.rglob("*") if each.is_file()):
        assert secret not in file.read_bytes(), file
        if file.suffix == ".parquet":
            table = pl.read_parquet(file)
            assert not {"segment_1", "segment_2", "text"} & set(table.columns), file
    table = run.table("sort")
    assert set(table["colour"]) == {"red"}
    assert set(table["source_id"]) == {"book0", "book1"}


def test_a_second_probe_over_the_same_run_adds_its_own_rows(ask, root) -> None:
    run = ask()
    before = run.table("sort")
    memprobe.run(
        probes="extraction",
        settings=("extraction.suffix_tokens=4",),
        model=str(root / "main"),
        data=str(root / "trials.jsonl"),
        steps="3",
        threads=1,
        out=run.path,
    )
    assert_frame_equal(memprobe.open_run(run.path).table("sort"), before)


# What is refused, on the command line.


@pytest.fixture
def command(root):
    return ("run", "-p", "sort", "-m", root / "main", "-d", root / "trials.jsonl", "--threads", "1")


def test_items_without_segments_are_refused_by_name(cli, root, tiny) -> None:
    answer = cli("run", "-p", "sort", "-m", root / "main", "-d", tiny.items)
    assert answer.code == 2
    assert "sort needs segment_1, segment_2, which no item has" in " ".join(answer.err.split())
    assert answer.out == ""


def test_items_without_segments_beside_trials_are_not_missed(ask, make, tmp_path) -> None:
    plain = dict.fromkeys(trial(0)) | {"item_id": "plain", "text": "no trial at all"}
    data = make.items(tmp_path / "mixed.jsonl", [trial(n) for n in range(4)] + [plain])
    run = ask(data=str(data))
    assert set(run.table("sort")["item_id"]) == {f"t{n}" for n in range(4)}
    assert run.manifest["items"]["n_unfit"] == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('sort.templates=["plian"]', "there is no template `plian`, did you mean `plain`"),
        ("sort.prompt_file=none.toml", "there is no prompt file"),
        ("sort.mode=promt", "allowed: prompt, likelihood, both"),
        ("sort.shot=2", "unknown setting `shot`, did you mean `shots`"),
        ("sort.select=best", "no trial has `validation` in `split`"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(cli, command, setting, message, tmp_path) -> None:
    answer = cli(*command, "--set", setting, "-o", tmp_path / "run")
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not (tmp_path / "run").exists()


def test_the_summary_as_json_holds_the_rows(ask, cli) -> None:
    run = ask()
    rows = json.loads(cli("summary", run.path, "--json").out)["summary"]
    assert {row["metric"] for row in rows} == {
        "accuracy_frac",
        "position_bias_frac",
        "gap_frac",
        "label_mass",
    }
