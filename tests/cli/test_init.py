"""`memprobe init`: what it writes runs as it stands."""

import json

import pytest

import memprobe


@pytest.mark.parametrize("template", ["audit", "paper"])
def test_what_is_written_runs_as_it_stands(template, cli, tiny, tmp_path):
    answer = cli("init", tmp_path / "new", "--template", template)
    assert answer.code == 0, answer.err
    assert answer.err == ""
    *written, last = answer.out.splitlines()
    assert written == [f"wrote {tmp_path}/new/{name}" for name in ("suite.toml", "README.md", "items.jsonl")]
    assert last == f"next: memprobe run {tmp_path}/new/suite.toml -m MODEL"
    command = last.removeprefix("next: memprobe ").replace("MODEL", tiny.model).split()
    answer = cli(*command, "--steps", "20", "--threads", "1", "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    run = memprobe.open_run(tmp_path / "run")
    assert run.manifest["items"]["n_items"] == 12
    # recall measures one span of each item, once for each entry of the suite.
    assert set(run.table("recall")["item_id"]) == set(run.table("items")["item_id"])


def test_audit_is_the_template_unless_told(cli, tmp_path):
    assert cli("init", tmp_path).code == 0
    assert memprobe.load_suite(tmp_path / "suite.toml").name == "audit"


def test_json_names_the_files_and_the_next_command(cli, tmp_path):
    document = json.loads(cli("init", tmp_path / "x", "--template", "paper", "--json").out)
    assert document["schema_version"] == 1
    assert document["template"] == "paper"
    assert document["files"][0] == f"{tmp_path}/x/suite.toml"
    assert document["next"] == f"memprobe run {tmp_path}/x/suite.toml -m MODEL"


def test_a_second_time_is_refused_with_2_and_names_what_is_there(cli, tmp_path):
    assert cli("init", tmp_path).code == 0
    answer = cli("init", tmp_path, "--template", "paper", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "3 files would be overwritten: suite.toml, README.md, items.jsonl" in answer.err
