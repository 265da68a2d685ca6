"""`checkpoints ls|verify` and adapters on the hub: headers by range requests, digests from lists of files."""

import json

import pytest

from memprobe.checkpoints import fetch, resolve, weights_digest
from memprobe.checkpoints.survey import survey
from memprobe.checkpoints.verify import verify


@pytest.fixture
def adapter(checkpoints) -> dict[str, bytes]:
    """The files of an adapter on `org/tiny`."""
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/tiny"}
    return {
        "adapter_config.json": json.dumps(settings | {"r": 2}).encode(),
        "adapter_model.safetensors": (checkpoints / "step0" / "model.safetensors").read_bytes(),
    }


def test_ls_reads_headers_and_downloads_no_weights(sweep, hub) -> None:
    (found,) = survey(["org/tiny@step{0..40..10}"])
    assert [(row.revision, row.step, row.problems) for row in found.rows] == [
        (f"step{n}", n, ()) for n in (0, 10, 20, 30, 40)
    ]
    local = resolve([str(sweep.items).replace("items.jsonl", "main")])[0].checkpoints[0]
    for row in found.rows:
        assert row.checkpoint is not None
        assert row.checkpoint.n_parameters == local.n_parameters
        assert (row.checkpoint.dtype, row.checkpoint.n_bytes) == ("float32", local.n_bytes)
        assert not row.as_json()["is_here"]
    assert sweep.here() == []


def test_verify_takes_the_hubs_hashes(sweep, hub, checkpoints) -> None:
    hub.add_folder("org/tiny", "step30", checkpoints / "step20", checkpoints)
    (found,) = survey(["org/tiny@step*"])
    findings = verify(found)
    assert [(each.kind, each.revisions, each.stops) for each in findings] == [
        ("same weights", ("step20", "step30"), True)
    ]
    assert sweep.here() == []
    assert hub.downloads() == []
    assert [line for line in hub.asked if line.startswith("RANGE")]


def test_a_broken_header_on_the_hub_does_not_hide_the_others(sweep, hub, checkpoints) -> None:
    files = {file.name: file.read_bytes() for file in (checkpoints / "step10").iterdir()}
    files["model.safetensors"] = b"\xff" * 500
    hub.add("org/tiny", "step10", files | {"tokenizer.json": (checkpoints / "tokenizer.json").read_bytes()})
    (found,) = survey(["org/tiny@step{0,10,20}"])
    assert [bool(row.problems) for row in found.rows] == [False, True, False]
    (problem,) = found.rows[1].problems
    assert problem.what == "the header of model.safetensors is not a safetensors header"
    assert problem.where == "org/tiny@step10"


def test_a_revision_that_does_not_exist_is_a_row(sweep) -> None:
    (found,) = survey(["org/tiny@step{0,5}"])
    assert [(row.step, bool(row.problems)) for row in found.rows] == [(0, False), (5, True)]
    assert found.rows[1].as_json()["n_bytes"] is None


def test_offline_what_is_here_and_what_is_not_are_told_apart(sweep, no_sockets) -> None:
    for checkpoint in resolve(["org/tiny@step{0,10}"])[0].checkpoints:
        if checkpoint.step == 0:
            fetch(checkpoint, offline=False)
    no_sockets()
    (found,) = survey(["org/tiny@step{0,10}"], offline=True)
    assert [(row.step, bool(row.problems), row.is_safety) for row in found.rows] == [
        (0, False, False),
        (10, True, True),
    ]
    assert "its weights are not in the local cache" in found.rows[1].problems[0].what


def test_the_command_line_shows_both(sweep, hub, checkpoints, cli) -> None:
    hub.add_folder("org/tiny", "step30", checkpoints / "step20", checkpoints)
    listed = cli("checkpoints", "ls", "org/tiny@step*")
    assert listed.code == 0
    assert "org/tiny: 5 checkpoints, 5 loadable" in listed.out
    verified = cli("checkpoints", "verify", "org/tiny@step*")
    assert verified.code == 2
    assert "step20, step30" in verified.out
    assert cli("checkpoints", "ls", "org/none").code == 2
    assert cli("checkpoints", "ls", "org/none", "--offline").code == 5


# Adapters


def test_a_base_on_the_hub_is_found_and_fetched(sweep, tmp_path, adapter) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    for name, content in adapter.items():
        (folder / name).write_bytes(content)
    ((checkpoint,),) = (each.checkpoints for each in resolve([str(folder)]))
    assert checkpoint.whole.repo == "org/tiny"
    assert checkpoint.tokenizer_folder is not None
    assert sweep.here() == []
    fetched = fetch(checkpoint, offline=False)
    assert fetched.whole.folder is not None
    assert fetched.n_parameters == fetched.whole.n_parameters
    assert fetched.n_parameters is not None
    assert weights_digest(fetched) == weights_digest(checkpoint)


def test_the_revision_of_the_base_is_the_settings_one(sweep, hub, adapter) -> None:
    settings = json.loads(adapter["adapter_config.json"]) | {"revision": "step20"}
    hub.add("org/lora", "main", adapter | {"adapter_config.json": json.dumps(settings).encode()})
    ((checkpoint,),) = (each.checkpoints for each in resolve(["org/lora"]))
    assert (checkpoint.model, checkpoint.weights_format) == ("org/lora", "lora")
    assert checkpoint.whole.commit == sweep.commits["step20"]


def test_ls_shows_an_adapter_with_its_bases_size(sweep, hub, adapter) -> None:
    hub.add("org/lora", "main", adapter)
    ((row,),) = (each.rows for each in survey(["org/lora"]))
    about = row.as_json()
    assert (about["format"], about["base"], about["dtype"]) == ("lora", "org/tiny@main", "float32")
    assert (
        about["n_parameters"]
        == resolve([sweep.items.replace("items.jsonl", "main")])[0].checkpoints[0].n_parameters
    )
    assert sweep.here() == []
