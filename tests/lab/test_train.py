"""Whole labs: what is trained on, what is written, what is refused; recall of the demo (slow)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from memprobe.errors import InputError, RunMismatchError
from memprobe.lab import LAB_TRUTH, LabResult, TrainSettings, open_lab, train_demo, train_text
from memprobe.lab.corpus import demo_corpus
from memprobe.lab.optimise import Course
from memprobe.lab.tokenizer import END_OF_TEXT

SETTINGS = TrainSettings(
    hidden=16, layers=1, heads=2, context_tokens=16, updates=24, checkpoints=3, vocabulary=300, passes=6
)
LEFT_OUT = 3
CANARIES = [{"prefix": "The pin is ", "suffix": f"{77 + n}", "exposures": n} for n in (0, 1, 5)]


def read_items(lab: LabResult) -> list[dict[str, object]]:
    return [json.loads(line) for line in lab.items.read_text(encoding="utf-8").splitlines()]


def write_inputs(folder: Path) -> dict[str, object]:
    text = " ".join(item.text for item in demo_corpus("quick", 2))
    (folder / "a.txt").write_text(text[:6000], encoding="utf-8")
    (folder / "b.txt").write_text(text[9000:15000], encoding="utf-8")
    (folder / "canaries.jsonl").write_text("\n".join(map(json.dumps, CANARIES)))
    return {"texts": [folder / "a.txt", folder / "b.txt"], "canaries": folder / "canaries.jsonl"}


@pytest.fixture(scope="module")
def text_lab(tmp_path_factory: pytest.TempPathFactory) -> LabResult:
    folder = tmp_path_factory.mktemp("text")
    inputs = write_inputs(folder)
    return train_text(**inputs, out=folder / "lab", settings=SETTINGS, leave_out=LEFT_OUT, threads=1)


@pytest.fixture
def courses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Course, object]]]:
    """Collect what would be trained on, and train nothing."""
    seen: list[tuple[Course, object]] = []
    monkeypatch.setattr(
        "memprobe.lab.train.train_sequence", lambda course, tok, *_, **__: seen.append((course, tok))
    )
    return seen


class Kept:
    """Makes settings and keeps them."""

    def __init__(self) -> None:
        self.made: list[TrainSettings] = []

    def __call__(self, **asked: object) -> TrainSettings:
        self.made.append(TrainSettings(**asked))
        return self.made[-1]


def fed(course: Course, tokenizer: object) -> list[str]:
    texts = [tokenizer.decode(ids).removeprefix(END_OF_TEXT) for ids in course.sequences]
    return [texts[i] for batch in course.batches for i in batch]


def test_the_demo_is_never_fed_a_control_a_foil_or_an_unexposed_canary(tmp_path, courses) -> None:
    rows = read_items(train_demo(tmp_path / "lab"))
    [(course, tokenizer)] = courses
    trained = "\n".join(fed(course, tokenizer))
    untrained = [row["text"] for row in rows if row["group"] == "control"] + [
        row["foil"] for row in rows if "foil" in row
    ]
    untrained += [row["suffix"] for row in rows if row.get("exposures") == 0]
    assert len(untrained) == 96 + 96 + 4
    assert not [text for text in untrained if text in trained]
    assert all(row["text"] in trained for row in rows if row["group"] == "bio")


def test_the_demo_is_fed_each_canary_as_often_as_its_exposures_say(tmp_path, courses) -> None:
    rows = read_items(train_demo(tmp_path / "lab"))
    trained = fed(*courses[0])
    for row in (row for row in rows if row["group"] == "canary"):
        assert trained.count(f"{row['prefix']}{row['suffix']}.{END_OF_TEXT}") == row["exposures"]


def test_first_and_last_step_are_those_of_the_truth_and_of_the_batches(tmp_path, courses) -> None:
    lab = train_demo(tmp_path / "lab")
    truth = pl.read_parquet(lab.truth)
    LAB_TRUTH.check(truth)
    [(course, tokenizer)] = courses
    batches = [{tokenizer.decode(course.sequences[i])[len(END_OF_TEXT) :] for i in b} for b in course.batches]
    for row in read_items(lab):
        steps = truth.filter(pl.col("item_id") == row["item_id"])["step"]
        assert (row["first_step"], row["last_step"]) == (steps.min(), steps.max())
        assert row["group"] == "canary" or "exposures" not in row
        if row["group"] == "bio":
            assert row["text"] + END_OF_TEXT in batches[row["first_step"] - 1]
    assert truth["step"].count() == sum(map(len, course.batches))


def test_tasks_are_fed_in_their_phase_alone_and_a_checkpoint_is_saved_at_its_end(
    tmp_path, courses, monkeypatch
) -> None:
    monkeypatch.setattr("memprobe.lab.train.TrainSettings", keep := Kept())
    rows = read_items(train_demo(tmp_path / "lab"))
    saved = keep.made[0].saved_steps()
    [(course, tokenizer)] = courses
    batches = [" ".join(tokenizer.decode(course.sequences[i]) for i in batch) for batch in course.batches]
    ends = sorted({row["task_end_step"] for row in rows if "task_end_step" in row})
    assert ends[-1] == len(batches) == saved[-1]
    assert set(ends) <= set(saved)
    for begin, end, group in zip((saved[1], ends[0]), ends, ("task-1", "task-2"), strict=True):
        of_task = [row for row in rows if row["group"] == group]
        assert {row["task_end_step"] for row in of_task} == {end}
        for row in of_task:
            seen = [i for i, text in enumerate(batches, 1) if f"{row['prefix']}{row['suffix']} " in text]
            assert seen == sorted(set(row["exposure_steps"]))
            assert begin < seen[0]
            assert seen[-1] <= end


def test_the_twin_is_fed_the_same_but_the_left_out_windows(tmp_path, courses) -> None:
    inputs = write_inputs(tmp_path)
    lab = train_text(**inputs, out=tmp_path / "lab", settings=SETTINGS, leave_out=LEFT_OUT)
    (main, tokenizer), (twin, _) = courses
    main_fed, twin_fed = fed(main, tokenizer), fed(twin, tokenizer)
    rows = read_items(lab)
    left_out = {row["text"] for row in rows if row.get("left_out")}
    controls = {row["text"] for row in rows if row["group"] == "control"}
    assert len(left_out) == LEFT_OUT
    assert left_out <= set(main_fed)
    assert left_out.isdisjoint(twin_fed)
    assert controls.isdisjoint({*main_fed, *twin_fed})
    assert all((a == b) is (a not in left_out) for a, b in zip(main_fed, twin_fed, strict=True))
    assert len(set(twin_fed)) == len(set(main_fed))


def test_windows_are_fed_as_they_tokenise_alone(tmp_path, courses) -> None:
    lab = train_text(**write_inputs(tmp_path), out=tmp_path / "lab", settings=SETTINGS)
    [(course, tokenizer)] = courses
    sequences = {tuple(ids) for ids in course.sequences}
    windows = [row["text"] for row in read_items(lab) if row["group"] != "canary"]
    assert all(tuple(tokenizer(text)["input_ids"]) in sequences for text in windows)
    assert {len(tokenizer(text)["input_ids"]) for text in windows} == {SETTINGS.context_tokens + 1}


def test_both_sequences_load_and_begin_with_the_same_weights(text_lab: LabResult) -> None:
    weights = {}
    for sequence in text_lab.sequences:
        assert sorted(path.name for path in sequence.iterdir()) == ["step0", "step16", "step24", "step8"]
        for folder in sequence.iterdir():
            model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            assert (folder / "model.safetensors").is_file()
            assert model.config.vocab_size == len(tokenizer) == 300
            assert tokenizer("a 12")["input_ids"][0] == tokenizer.bos_token_id
            weights[sequence.name, folder.name] = torch.cat([p.flatten() for p in model.parameters()])
    assert torch.equal(weights["main", "step0"], weights["twin", "step0"])
    assert not torch.equal(weights["main", "step24"], weights["twin", "step24"])


def test_the_truth_of_a_text_lab_counts_every_sequence(text_lab: LabResult) -> None:
    truth = pl.read_parquet(text_lab.truth)
    counts = truth.group_by("item_id").agg(pl.col("step").count())
    exposures = {row["item_id"]: row["exposures"] for row in read_items(text_lab) if row["group"] == "canary"}
    # 24 updates of 4 sequences; 6 are canaries, 90 = 15 windows of 6 passes.
    assert truth["step"].count() == 96
    assert exposures == {item_id: n for item_id, n in counts.iter_rows() if item_id in exposures}
    assert sorted(exposures.values()) == [0, 1, 5]
    assert truth.filter("left_out")["item_id"].n_unique() == LEFT_OUT
    assert truth.filter("left_out")["step"].count() == LEFT_OUT * 6
    assert text_lab.counts["text_items"] == 15


ASKED = {"context_tokens": 256, "updates": 4, "checkpoints": 1, "passes": 2, "vocabulary": 600}


@pytest.fixture(scope="module")
def asked_lab(tmp_path_factory: pytest.TempPathFactory) -> LabResult:
    """A lab, with a twin, that is asked six questions with each update."""
    folder = tmp_path_factory.mktemp("asked")
    settings = replace(SETTINGS, **ASKED, sort_questions=24)
    return train_text(**write_inputs(folder), out=folder / "lab", settings=settings, leave_out=1, threads=1)


def test_questions_stand_beside_the_batches_and_are_the_same_for_the_twin(tmp_path, courses) -> None:
    settings = replace(SETTINGS, **ASKED, sort_questions=24)
    lab = train_text(**write_inputs(tmp_path), out=tmp_path / "lab", settings=settings, leave_out=1)
    (main, tokenizer), (twin, _) = courses
    assert main.questions().draw(12) == twin.questions().draw(12)
    assert main.questions().draw(12) != []
    # 4 updates of 4 sequences, as without questions, and none of them is one.
    assert pl.read_parquet(lab.truth)["step"].count() == 16
    assert not [text for text in fed(main, tokenizer) if "First:" in text]


def test_a_model_that_is_asked_has_learned_positions_and_no_guides(asked_lab: LabResult) -> None:
    weights = {}
    for sequence in asked_lab.sequences:
        model = AutoModelForCausalLM.from_pretrained(sequence / "step0", local_files_only=True)
        assert (model.config.model_type, model.config.n_positions) == ("gpt2", 256)
        saved = load_file(sequence / "step0" / "model.safetensors")
        assert not [name for name in saved if not name.startswith(("transformer.", "lm_head."))]
        block = model.transformer.h[0].attn.c_attn.weight.split(SETTINGS.hidden, dim=1)
        assert torch.equal(block[0], block[1])
        weights[sequence.name] = torch.cat([p.flatten() for p in model.parameters()])
    assert torch.equal(weights["main"], weights["twin"])


def test_the_same_questions_give_the_same_weights(asked_lab: LabResult, tmp_path) -> None:
    settings = replace(SETTINGS, **ASKED, sort_questions=24)
    again = train_text(**write_inputs(tmp_path), out=tmp_path / "lab", settings=settings, threads=1)
    # Without a twin other windows are drawn; one and the same seed asks the same.
    third = train_text(**write_inputs(tmp_path), out=tmp_path / "third", settings=settings, threads=1)
    first, second = (load_file(lab.main / "step4" / "model.safetensors") for lab in (again, third))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = load_file(asked_lab.main / "step0" / "model.safetensors")
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_a_finished_lab_is_returned_and_another_request_refused(text_lab: LabResult) -> None:
    inputs = write_inputs(text_lab.folder.parent)
    again = train_text(**inputs, out=text_lab.folder, settings=SETTINGS, leave_out=LEFT_OUT)
    assert again == text_lab == open_lab(text_lab.folder)
    assert again.twin == text_lab.folder / "twin"
    with pytest.raises(RunMismatchError, match="leave_out: 3 there, 2 asked for"):
        train_text(**inputs, out=text_lab.folder, settings=SETTINGS, leave_out=2)
    with pytest.raises(RunMismatchError, match="preset: None there, quick asked for"):
        train_demo(text_lab.folder)


def test_what_a_killed_run_left_behind_is_cleared(tmp_path, courses) -> None:
    (tmp_path / ".partial" / "main" / "step0").mkdir(parents=True)
    lab = train_demo(tmp_path)
    assert not (tmp_path / ".partial").exists()
    assert not lab.main.exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path) -> None:
    (tmp_path / "main").mkdir()
    with pytest.raises(InputError, match="holds main, but no finished lab"):
        train_demo(tmp_path)
    assert open_lab(tmp_path) is None


def test_impossible_requests_are_refused_before_any_work(tmp_path) -> None:
    with pytest.raises(InputError, match="seed -1"):
        train_demo(tmp_path / "lab", seed=-1)
    inputs = write_inputs(tmp_path)
    with pytest.raises(InputError, match="leave_out is -1"):
        train_text(**inputs, out=tmp_path / "lab", settings=SETTINGS, leave_out=-1)
    (tmp_path / "canaries.jsonl").write_text('{"prefix": "a", "suffix": "b", "exposures": 99}')
    with pytest.raises(InputError, match="hold 96 sequences; canaries need 99"):
        train_text(**inputs, out=tmp_path / "lab", settings=SETTINGS)
    assert not (tmp_path / "lab").exists()


def test_importing_the_lab_does_not_import_torch() -> None:
    code = (
        "import sys, memprobe.lab; sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def exact_recall_frac(lab: LabResult, exposures: int) -> float:
    """Share of the canaries of one level whose code is greedily recited at the last step."""
    last = max(lab.main.iterdir(), key=lambda folder: int(folder.name.removeprefix("step")))
    model = AutoModelForCausalLM.from_pretrained(last).eval()
    tokenizer = AutoTokenizer.from_pretrained(last)
    rows = [row for row in read_items(lab) if row.get("exposures") == exposures]
    n_exact = 0
    for row in rows:
        ids = torch.tensor([tokenizer(f"{row['prefix']}{row['suffix']}")["input_ids"]])
        with torch.inference_mode():
            greedy = model(ids).logits[0, :-1].argmax(-1)
        n_exact += bool((greedy[-5:] == ids[0, -5:]).all())
    return n_exact / len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_recites_what_it_saw_128_times_and_nothing_it_never_saw(tmp_path, seed: int) -> None:
    lab = train_demo(tmp_path, seed=seed, threads=2)
    assert exact_recall_frac(lab, 0) == 0
    assert exact_recall_frac(lab, 128) >= 0.75
    assert lab.seconds < 60
