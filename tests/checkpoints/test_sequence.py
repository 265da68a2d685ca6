"""`resolve` over several specs: merging, choosing, names, twins, tokenizers, and cheap imports."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from memprobe import checkpoints as package
from memprobe.checkpoints import CheckpointCache, count_parameters, fetch, resolve, weights_digest
from memprobe.errors import CheckpointError, SafetyError, UnloadableError


def refused(*specs: str, kind: type = CheckpointError, **options):
    with pytest.raises(kind) as caught:
        resolve(specs, **options)
    return caught.value.problems


def shape(*specs: str, **options) -> list[tuple[str, list[int | None]]]:
    return [(s.model, [c.step for c in s.checkpoints]) for s in resolve(specs, **options)]


@pytest.fixture
def main(make):
    for step in (0, 100, 200, 300):
        make(f"main/step{step}", fill=step % 251)
    return make


def test_specs_keep_their_order(main) -> None:
    main("base")
    assert shape("main", "base") == [("main", [0, 100, 200, 300]), ("base", [None])]
    assert shape("base", "main") == [("base", [None]), ("main", [0, 100, 200, 300])]


def test_steps_choose_in_every_sequence(main) -> None:
    main("other/checkpoint-100")
    main("other/checkpoint-150")
    assert shape("main", "other", steps="100..300:100") == [("main", [100, 200, 300]), ("other", [100])]


def test_a_step_that_is_not_there_is_noted(main) -> None:
    (sequence,) = resolve(["main"], steps="0,50,60,500..900")
    assert [checkpoint.step for checkpoint in sequence.checkpoints] == [0]
    assert sequence.notes == ("--steps names steps that main does not have: 50, 60",)


def test_no_step_left_says_what_there_is(main) -> None:
    (problem,) = refused("main", steps="5..9")
    assert problem.what == "no checkpoint of main is left by --steps 5..9"
    assert problem.where == "main"
    assert problem.fix == "it has 4 checkpoints, at steps 0 to 300"
    main("base")
    assert refused("base", steps="7")[0].fix == "it has one checkpoint, without a step"


def test_no_step_left_of_a_bare_hub_id_names_the_pattern(hub) -> None:
    hub.cached("org/name", "main")
    (problem,) = refused("org/name", steps="1000", offline=True)
    assert problem.fix == "it has one checkpoint, without a step; 'org/name@step*' names all its steps"


def test_checkpoints_of_one_folder_are_one_sequence(main) -> None:
    assert shape("main/step300", "main/step0") == [("main", [0, 300])]


def test_the_same_checkpoint_twice_counts_once(main) -> None:
    assert shape("main", "main/step100", "main") == [("main", [0, 100, 200, 300])]


def test_revisions_of_one_repository_are_one_sequence(hub) -> None:
    for revision in ("step1", "step2"):
        hub.cached("org/name", revision)
    assert shape("org/name@step2", "org/name@step1", offline=True) == [("org/name", [1, 2])]


def test_two_checkpoints_with_one_step_are_refused(main) -> None:
    main("main/step_100")
    main("main/step0300")
    (problem,) = refused("main")
    assert (
        problem.what
        == "two checkpoints of main have one step: 100 (step100, step_100), 300 (step0300, step300)"
    )
    assert problem.where == "main"
    assert problem.fix == "name the checkpoints that you mean one by one, with -m for each"


def test_twins_that_are_not_chosen_do_no_harm(main) -> None:
    main("main/step_100")
    assert shape("main", steps="200..300") == [("main", [200, 300])]
    assert shape("main/step_100", "main/step0") == [("main", [0, 100])]


def test_equal_names_get_their_parents_in_front(main) -> None:
    for name in ("a/main/step1", "b/main/step1", "c/other/step1"):
        main(name)
    sequences = resolve(["a/main", "b/main", "c/other"])
    assert [sequence.model for sequence in sequences] == ["a/main", "b/main", "other"]
    assert [sequence.checkpoints[0].model for sequence in sequences] == ["a/main", "b/main", "other"]


def test_as_many_parents_as_it_takes(main) -> None:
    for name in ("x/run/main/step1", "y/run/main/step1"):
        main(name)
    assert [s.model for s in resolve(["x/run/main", "y/run/main"])] == ["x/run/main", "y/run/main"]


def test_names_that_no_parent_tells_apart_are_refused(main, contents) -> None:
    contents.write(main("both").parent / "both", contents.files())
    main("both/step5")
    (problem,) = refused("both", "both/step5")
    assert problem.what == "two sequences have the name both"
    assert problem.where == "both, both/step5"
    assert problem.fix == "measure them in two runs, or rename a folder"


def other_tokenizer(contents) -> dict[str, bytes]:
    model = b'{"model": {"type": "WordLevel", "vocab": {"z": 0}, "unk_token": "z"}}'
    return contents.files() | {"tokenizer.json": model}


def test_a_tokenizer_that_differs_inside_a_sequence_is_refused(main, contents) -> None:
    main("main/step400", other_tokenizer(contents))
    (problem,) = refused("main")
    assert problem.what == "the tokenizer differs inside main: 2 different ones"
    assert problem.where == "step0, step100, step200 and 1 more / step400"
    assert problem.fix == "pass --tokenizer with the one for all, or choose checkpoints with --steps"


def test_one_tokenizer_for_all_or_none_needed_or_other_steps_settle_it(main, contents) -> None:
    main("main/step400", other_tokenizer(contents))
    chosen = main("tokenizer", {"tokenizer.json": b"{}"})
    (sequence,) = resolve(["main"], tokenizer="tokenizer")
    assert {checkpoint.tokenizer_folder for checkpoint in sequence.checkpoints} == {chosen}
    assert len(resolve(["main"], needs_tokenizer=False)[0].checkpoints) == 5
    assert len(resolve(["main"], steps="0..300")[0].checkpoints) == 4


def test_two_sequences_may_have_two_tokenizers(main, contents) -> None:
    main("other/step1", other_tokenizer(contents))
    assert len(resolve(["main", "other"])) == 2


def test_a_tokenizer_that_differs_on_the_hub_is_found_before_the_weights_are(hub, contents) -> None:
    hub.add("org/name", "step0")
    hub.add("org/name", "step1", other_tokenizer(contents))
    (problem,) = refused("org/name@step*")
    assert problem.what == "the tokenizer differs inside org/name: 2 different ones"
    assert not list(hub.cache.rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("tokenizer", "what"),
    [
        ("tokeniser", "--tokenizer `tokeniser` is not a folder, did you mean `tokenizer`?"),
        ("tokenizer/tokenizer.json", "--tokenizer `tokenizer/tokenizer.json` is not a folder"),
        ("bare", "the folder of --tokenizer has no tokenizer"),
    ],
)
def test_a_tokenizer_that_is_none_is_refused(main, tokenizer: str, what: str) -> None:
    main("tokenizer", {"tokenizer.json": b"{}"})
    main("bare", {"config.json": b"{}"})
    (problem,) = refused("main", tokenizer=tokenizer)
    assert problem.what.startswith(what)
    assert problem.fix == "pass a folder with tokenizer.json, or a hub id"


def test_all_problems_are_told_at_once(main) -> None:
    main("void", {})
    problems = refused("void", "./nowhere", "main", tokenizer="none", steps="7")
    assert len(problems) == 4


def test_a_bad_steps_text_is_refused_first(main) -> None:
    assert refused("main", steps="x")[0].what == "`x` is neither a step nor a range of steps"


def test_permissions_alone_exit_as_safety(main) -> None:
    for step in (0, 100):
        main(f"own/step{step}", config={"model_type": "own", "auto_map": {}})
    (problem,) = refused("own", kind=SafetyError)
    assert problem.where.count("/own/step") == 2
    assert shape("own", trust_remote_code=True) == [("own", [0, 100])]


def test_no_heavy_library_is_imported_for_a_folder(main) -> None:
    code = (
        "import json, sys; from memprobe.checkpoints import resolve, weights_digest\n"
        "[weights_digest(c) for c in resolve(['main'])[0].checkpoints]\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "datasets", "huggingface_hub", "numpy", "polars"}
    assert not heavy & set(json.loads(done.stdout))


def test_the_public_names_are_there() -> None:
    assert all(hasattr(package, name) for name in package.__all__)
    assert sorted(package.__all__) == package.__all__


def test_a_revision_of_which_nothing_can_be_read_keeps_its_place(hub, contents) -> None:
    lacking = {name: content for name, content in contents.files().items() if name != "config.json"}
    for step in range(3):
        hub.add("org/name", f"step{step}", lacking if step == 1 else contents.files())
    (sequence,) = resolve(["org/name@step*"])
    lost = sequence.checkpoints[1]
    assert [(each.step, bool(each.problems)) for each in sequence.checkpoints] == [
        (0, False),
        (1, True),
        (2, False),
    ]
    assert "no config.json" in lost.problems[0].what
    assert (lost.repo, lost.commit is None, lost.small_files.name) == ("org/name", False, lost.commit)
    assert sequence.tokenizer_folder == sequence.checkpoints[0].tokenizer_folder
    counted = count_parameters(sequence.checkpoints, offline=False)
    assert [each.n_parameters is None for each in counted] == [False, True, False]
    assert weights_digest(lost) != weights_digest(replace(lost, revision="step9"))
    for call in (CheckpointCache().bring, lambda each: fetch(each, offline=False)):
        with pytest.raises(UnloadableError, match=r"no config\.json"):
            call(lost)
