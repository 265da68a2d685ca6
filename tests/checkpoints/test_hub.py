"""Hub specs through `resolve` and `fetch`: a hub that answers, one that does not, and the cache alone."""

import inspect
import socket
from pathlib import Path

import pytest

from memprobe.checkpoints import fetch, resolve
from memprobe.errors import CheckpointError, SafetyError

STEPS = ("step0", "step1000", "step2000", "step3000")


def revisions(spec: str, **options) -> list[tuple[str, int]]:
    (sequence,) = resolve([spec], **options)
    return [(checkpoint.revision, checkpoint.step) for checkpoint in sequence.checkpoints]


def refused(kind: type, spec: str, **options):
    with pytest.raises(kind) as caught:
        resolve([spec], **options)
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def online(hub):
    """A hub with org/name at main and four steps; nothing is cached."""
    for revision in ("main", *STEPS):
        hub.add("org/name", revision)
    return hub


@pytest.fixture
def cached(hub):
    """A cache that holds org/name at main and two steps; the hub would answer with an error."""
    for revision in ("main", "step0", "step1000"):
        hub.cached("org/name", revision)
    hub.error = ConnectionError("refused")
    return hub


def http_error(name: str, status: int) -> Exception:
    """One of the client's own errors, made as the client makes it."""
    from huggingface_hub import errors

    root = inspect.getmodule(errors.HfHubHTTPError.__bases__[0]).__name__.partition(".")[0]
    client = __import__(root)
    response = client.Response(status, request=client.Request("GET", "http://hub.invalid"))
    return getattr(errors, name)("no", response=response)


def test_a_bare_id_is_main_without_a_step(online) -> None:
    (sequence,) = resolve(["org/name"])
    (checkpoint,) = sequence.checkpoints
    assert sequence.model == checkpoint.model == checkpoint.repo == "org/name"
    assert (checkpoint.revision, checkpoint.step) == ("main", None)
    assert checkpoint.commit == online.commit("org/name", "main")
    assert checkpoint.label == "org/name@main"


def test_what_is_not_cached_is_described_without_its_weights(online, contents) -> None:
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    assert checkpoint.folder is None
    assert checkpoint.weight_files == ("model.safetensors",)
    assert checkpoint.n_bytes == len(contents.safetensors())
    assert (checkpoint.n_parameters, checkpoint.dtype) == (None, None)
    assert checkpoint.tokenizer_folder is not None
    assert not (checkpoint.tokenizer_folder / "model.safetensors").exists()


def test_files_in_subfolders_are_not_downloaded(hub, contents) -> None:
    hub.add("org/name", "main", contents.files() | {"onnx/config.json": b"{}"})
    fetched = fetch(resolve(["org/name"])[0].checkpoints[0], offline=False)
    assert fetched.folder is not None
    assert not (fetched.folder / "onnx").exists()


def test_what_is_cached_is_not_downloaded_again(online) -> None:
    folder = online.cached("org/name", "main")
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    assert checkpoint.folder == folder == checkpoint.tokenizer_folder
    assert checkpoint.n_parameters == 6
    assert online.calls == ["refs org/name"]


def test_a_cache_that_lags_behind_the_hub_is_not_used(online) -> None:
    folder = online.cached("org/name", "main")
    folder.rename(folder.with_name("0" * 40))
    (online.cache / "models--org--name/refs/main").write_text("0" * 40)
    assert resolve(["org/name"])[0].checkpoints[0].folder is None


def test_a_snapshot_without_its_tokenizer_is_completed(online, contents) -> None:
    online.cached("org/name", "main", contents.files(tokenizer=False))
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    assert checkpoint.tokenizer_folder is not None
    assert "download org/name@main" in online.calls


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("org/name@step1000", [("step1000", 1000)]),
        ("org/name@step{0,2000}", [("step0", 0), ("step2000", 2000)]),
        ("org/name@step{1000..3000..2000}", [("step1000", 1000), ("step3000", 3000)]),
        ("org/name@step*", [(step, int(step[4:])) for step in STEPS]),
        ("org/name@step?000", [(step, int(step[4:])) for step in STEPS[1:]]),
    ],
)
def test_specs_name_revisions_by_step(online, spec: str, found: list[tuple[str, int]]) -> None:
    assert revisions(spec) == found


def test_steps_choose_before_anything_is_asked_of_the_others(online) -> None:
    del online.repos["org/name"]["step3000"]
    assert revisions("org/name@step{0..3000..1000}", steps="0..2000:2000") == [
        ("step0", 0),
        ("step2000", 2000),
    ]
    assert "step1000" not in " ".join(online.calls)


def test_a_commit_is_a_revision(online) -> None:
    commit = online.commit("org/name", "step1000")
    (checkpoint,) = resolve([f"org/name@{commit}"])[0].checkpoints
    assert (checkpoint.revision, checkpoint.commit, checkpoint.step) == (commit, commit, None)


def test_a_pattern_over_all_refs_leaves_out_those_without_a_step_and_says_so(online) -> None:
    (sequence,) = resolve(["org/name@*"])
    assert [checkpoint.step for checkpoint in sequence.checkpoints] == [0, 1000, 2000, 3000]
    assert sequence.notes == ("left out, as their names have no step: main",)


def test_the_position_is_the_step_where_no_name_has_one(hub) -> None:
    hub.add("org/name", "early")
    hub.add("org/name", "late")
    (sequence,) = resolve(["org/name@{early,late}"])
    assert [(c.revision, c.step) for c in sequence.checkpoints] == [("early", 0), ("late", 1)]
    assert sequence.notes == ("no step in the name, so the position from 0 is the step: early, late",)


def test_a_path_that_exists_wins_over_a_hub_id(online, make) -> None:
    make("org/name")
    (sequence,) = resolve(["org/name"])
    assert (sequence.model, sequence.checkpoints[0].repo) == ("name", None)
    assert online.calls == []


def test_a_folder_has_no_revisions(online, make) -> None:
    make("org/name/step5")
    problem = refused(CheckpointError, "org/name@step5")
    assert problem.what == "org/name is a folder here, and a folder has no revisions"
    assert problem.fix == "pass -m org/name and choose with --steps"


def test_revisions_that_do_not_exist_are_named_together(online) -> None:
    problem = refused(CheckpointError, "org/name@step{0..5000..1000}")
    assert problem.what == "org/name has no such revision"
    assert problem.where == "org/name@step4000, org/name@step5000"
    assert problem.fix == "check it against the repository's branches and tags"


def test_one_revision_that_does_not_exist_has_a_near_miss(online) -> None:
    problem = refused(CheckpointError, "org/name@step300")
    assert problem.what == "org/name has no revision `step300`, did you mean `step3000`?"


def test_a_pattern_that_matches_nothing_says_what_there_is(online) -> None:
    problem = refused(CheckpointError, "org/name@checkpoint-*")
    assert problem.what == (
        "no revision of org/name matches `checkpoint-*`; it has main, step0, step1000 and 2 more"
    )


@pytest.mark.parametrize(
    ("name", "status", "what", "fix"),
    [
        (
            "RepositoryNotFoundError",
            404,
            "there is no such model on the hub (or it is private), and no such folder here",
            "check the name, or log in with `hf auth login`",
        ),
        (
            "GatedRepoError",
            403,
            "the hub asks for permission to read the model",
            "accept its terms on its page of the hub, then log in with `hf auth login`",
        ),
        ("RevisionNotFoundError", 404, "there is no such revision on the hub", ""),
        (
            "HfHubHTTPError",
            503,
            "the hub answers with status 503",
            "check the network; with --offline the local cache alone is used",
        ),
    ],
)
def test_each_answer_of_the_hub_has_its_sentence(hub, name: str, status: int, what: str, fix: str) -> None:
    hub.error = http_error(name, status)
    problem = refused(CheckpointError, "org/name")
    assert (problem.what, problem.where, problem.fix) == (what, "org/name", fix)


def test_an_unreachable_hub_is_told_by_the_real_client(tmp_path: Path, monkeypatch) -> None:
    from huggingface_hub import constants

    def refuse(*args: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert refused(CheckpointError, "org/name").what == "the hub cannot be reached (ConnectError)"


def test_the_real_client_takes_our_arguments() -> None:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    inspect.signature(HfApi.list_repo_refs).bind(None, "org/name")
    inspect.signature(HfApi.list_repo_tree).bind(None, "org/name", revision="main")
    inspect.signature(snapshot_download).bind(
        "org/name", revision="main", allow_patterns=[], ignore_patterns=[]
    )
    inspect.signature(hf_hub_download).bind("org/name", "model.safetensors", revision="0" * 40)
    inspect.signature(HfApi.parse_safetensors_file_metadata).bind(
        None, "org/name", "model.safetensors", revision="0" * 40
    )


def test_an_unreachable_hub_leaves_the_cache_and_says_so(cached) -> None:
    (sequence,) = resolve(["org/name@step*"])
    assert [checkpoint.step for checkpoint in sequence.checkpoints] == [0, 1000]
    assert all(checkpoint.folder for checkpoint in sequence.checkpoints)
    assert sequence.notes == (
        "the hub could not be reached: org/name was taken from the local cache",
        "the pattern was matched against the revisions of org/name in the local cache alone",
    )


def test_an_unreachable_hub_and_a_cache_that_does_not_do_is_an_input_error(cached) -> None:
    problem = refused(CheckpointError, "org/name@step{1000,2000}")
    assert problem.what == ("the hub cannot be reached (ConnectionError), and the local cache is incomplete")
    assert problem.where == "org/name@step2000"
    assert refused(CheckpointError, "org/name@none*").where == "org/name@none*"


def test_offline_uses_the_cache_and_asks_nothing(cached) -> None:
    assert revisions("org/name@step*", offline=True) == [("step0", 0), ("step1000", 1000)]
    assert revisions("org/name", offline=True) == [("main", None)]
    commit = cached.commit("org/name", "step1000")
    assert resolve([f"org/name@{commit}"], offline=True)[0].checkpoints[0].n_parameters == 6
    assert cached.calls == []


def test_the_environments_offline_mode_counts(cached, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert revisions("org/name@step0") == [("step0", 0)]
    assert cached.calls == []


@pytest.mark.parametrize("spec", ["org/name@step2000", "org/name@x*", "other/model"])
def test_offline_and_not_cached_is_refused_for_safety(cached, spec: str) -> None:
    with pytest.raises(SafetyError) as caught:
        resolve([spec], offline=True)
    (problem,) = caught.value.problems
    repo = spec.partition("@")[0]
    assert caught.value.exit_code == 5
    assert problem.what == (
        f"{repo} is not whole in the local cache, and the network is off (--offline or HF_HUB_OFFLINE)"
    )
    assert problem.where == spec
    assert problem.fix == (
        f"with a network: memprobe fetch -m '{spec}'; memprobe checkpoints ls shows what is here"
    )
    assert cached.calls == []


def test_a_snapshot_without_weights_is_not_whole(hub, contents) -> None:
    files = contents.files()
    files.pop("model.safetensors")
    hub.cached("org/name", "main", files)
    assert refused(SafetyError, "org/name", offline=True).where == "org/name@main"


def test_a_snapshot_without_its_blob_is_not_whole(hub) -> None:
    (hub.cached("org/name", "main") / "model.safetensors").resolve().unlink()
    assert refused(SafetyError, "org/name", offline=True).where == "org/name@main"


def test_a_snapshot_without_a_tokenizer_asks_for_one(hub, contents) -> None:
    hub.cached("org/name", "main", contents.files(tokenizer=False))
    problem = refused(CheckpointError, "org/name", offline=True)
    assert problem.what == "there is no tokenizer in the checkpoint, nor beside it"
    (sequence,) = resolve(["org/name"], offline=True, needs_tokenizer=False)
    assert sequence.checkpoints[0].tokenizer_folder is None


def test_an_adapter_is_named_as_one_online_and_offline(hub) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}
    hub.add("org/lora", "main", files)
    what = "adapter_config.json names no base model"
    assert refused(CheckpointError, "org/lora").what == what
    hub.cached("org/lora", "main", files)
    assert refused(CheckpointError, "org/lora", offline=True).what == what


def test_a_mistyped_path_is_not_taken_for_a_hub_id(hub, make) -> None:
    make("runs/main/step1")
    problem = refused(CheckpointError, "runs/mian", offline=True)
    assert problem.what == "there is no folder `runs/mian`, did you mean `main`?"


def test_a_broken_ref_says_so(hub) -> None:
    hub.cached("org/name", "main")
    (hub.cache / "models--org--name/refs/main").write_bytes(b"\xff")
    assert refused(CheckpointError, "org/name", offline=True).what.startswith(
        "the cache of org/name cannot be read: "
    )


def test_pickle_on_the_hub_is_refused_once_for_all_revisions(hub, contents) -> None:
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    for step in STEPS:
        hub.add("org/name", step, files)
    problem = refused(SafetyError, "org/name@step*")
    assert problem.what.startswith("the weights are a pickle file (pytorch_model.bin)")
    assert problem.where == "org/name@step0, org/name@step1000, org/name@step2000 and 1 more"


def test_no_tokenizer_on_the_hub_is_an_error_before_the_download(hub, contents) -> None:
    hub.add("org/name", "main", contents.files(tokenizer=False))
    problem = refused(CheckpointError, "org/name")
    assert (problem.what, problem.where) == (
        "there is no tokenizer in the checkpoint, nor beside it",
        "org/name@main",
    )
    assert resolve(["org/name"], needs_tokenizer=False)[0].checkpoints[0].tokenizer_folder is None


def test_fetch_downloads_what_is_missing(online) -> None:
    (checkpoint,) = resolve(["org/name@step1000"])[0].checkpoints
    fetched = fetch(checkpoint, offline=False)
    assert fetched.folder is not None
    assert (fetched.folder / "model.safetensors").is_file()
    assert (fetched.n_parameters, fetched.dtype) == (6, "float32")
    assert fetched.tokenizer_folder == fetched.folder
    assert (fetched.commit, fetched.step) == (checkpoint.commit, 1000)
    online.error = ConnectionError("refused")
    assert revisions("org/name@step1000", offline=True) == [("step1000", 1000)]


def test_fetch_of_what_is_here_asks_nothing(cached) -> None:
    (checkpoint,) = resolve(["org/name"], offline=True)[0].checkpoints
    assert fetch(checkpoint, offline=False) is checkpoint
    assert cached.calls == []


def test_fetch_offline_is_refused_for_safety(online) -> None:
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    with pytest.raises(SafetyError, match="org/name is not whole in the local cache"):
        fetch(checkpoint, offline=True)


def test_fetch_tells_a_failed_download(online) -> None:
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    online.error = TimeoutError("slow")
    with pytest.raises(CheckpointError, match=r"the hub cannot be reached \(TimeoutError\)"):
        fetch(checkpoint, offline=False)


def test_a_revision_that_moves_while_it_is_looked_into_is_an_error(online, monkeypatch) -> None:
    download = online.snapshot_download

    def moved(*args, **options) -> str:
        folder = Path(download(*args, **options))
        return str(folder.rename(folder.with_name("f" * 40)))

    monkeypatch.setattr("huggingface_hub.snapshot_download", moved)
    problem = refused(CheckpointError, "org/name")
    was = online.commit("org/name", "main")[:8]
    assert problem.what == f"the revision moved on the hub from {was} to ffffffff meanwhile"
    assert problem.fix == "run the same command again"


def test_fetch_refuses_an_incomplete_download(online) -> None:
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    del online.repos["org/name"]["main"]["model.safetensors"]
    with pytest.raises(CheckpointError, match=r"the download left out model\.safetensors"):
        fetch(checkpoint, offline=False)


def test_a_tokenizer_can_come_from_the_hub(online, make) -> None:
    make("gpt", tokenizer=False)
    (checkpoint,) = resolve(["gpt"], tokenizer="org/name@step0")[0].checkpoints
    assert checkpoint.tokenizer_folder is not None
    assert checkpoint.tokenizer_folder.name == online.commit("org/name", "step0")
    assert not (checkpoint.tokenizer_folder / "model.safetensors").exists()
    (again,) = resolve(["gpt"], tokenizer="org/name@step0", offline=True)[0].checkpoints
    assert again.tokenizer_folder == checkpoint.tokenizer_folder


@pytest.mark.parametrize(
    ("tokenizer", "offline", "kind", "what"),
    [
        ("org/name@step*", False, CheckpointError, "--tokenizer names several revisions"),
        ("org/name@step{0,1}", False, CheckpointError, "--tokenizer names several revisions"),
        ("org/name@x", False, CheckpointError, "org/name has no such revision"),
        ("org/none", False, CheckpointError, "it has no tokenizer"),
        ("org/else", True, SafetyError, "org/else is not whole in the local cache"),
    ],
)
def test_a_tokenizer_spec_that_does_not_do_is_refused(
    online, make, tokenizer: str, offline: bool, kind: type, what: str
) -> None:
    make("gpt", tokenizer=False)
    online.add("org/none", "main", {"config.json": b"{}"})
    with pytest.raises(kind) as caught:
        resolve(["gpt"], tokenizer=tokenizer, offline=offline)
    assert caught.value.problems[0].what.startswith(what)
