"""`checkpoints ls|verify`: what is shown in 80 columns, in JSON, and with which exit code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memprobe.cli.checkpoints import _scaled, _sentence
from memprobe.wording import sized

HEAVY = ("torch", "transformers", "datasets", "scipy", "peft", "safetensors", "tokenizers")
_ASK = """
import json, sys
from memprobe.cli import main
sys.argv = ["memprobe", "checkpoints", *{args!r}]
try:
    main()
except SystemExit as end:
    loaded = {{name.partition(".")[0] for name in sys.modules}}
    print(json.dumps([end.code, sorted(loaded.intersection({heavy!r}))]), file=sys.stderr)
"""


@pytest.fixture
def sequence(tiny, tmp_path) -> Path:
    """A sequence of steps 0, 10, 20 that a test may damage."""
    return Path(shutil.copytree(tiny.model, tmp_path / "main"))


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def test_ls_shows_a_row_for_each_checkpoint(cli, tiny) -> None:
    answer = cli("checkpoints", "ls", tiny.model)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].rstrip() == "main: 3 checkpoints, 3 loadable, 130 kB"
    # 2 x 256 x 16 embeddings, and the layer.
    assert lines[3].split() == ["step0", "0", "10.4k", "float32", "43.4", "kB", "safetensors", "yes"]
    assert len(lines) == 6
    assert answer.err == ""


def test_ls_says_why_a_checkpoint_cannot_be_loaded_and_shows_the_others(cli, sequence) -> None:
    cut(sequence / "step10")
    answer = cli("checkpoints", "ls", "-m", sequence)
    assert answer.code == 0
    assert "main: 3 checkpoints, 2 loadable" in answer.out
    assert [line.split()[-1] for line in answer.out.splitlines()[3:6]] == ["yes", "no", "yes"]
    assert "step10: a weight file is cut short or corrupt" in answer.out
    # To be copied whole, however long.
    assert f"  where: {sequence / 'step10' / 'model.safetensors'}\n" in answer.out


def test_a_reason_that_many_share_is_said_once(cli, sequence) -> None:
    for step in (0, 10, 20):
        (sequence / f"step{step}" / "config.json").write_text("{")
    answer = cli("checkpoints", "ls", sequence)
    assert answer.code == 0
    assert answer.out.count("config.json is not valid JSON") == 1
    assert "step0, step10, step20: config.json is not valid JSON" in answer.out


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_everything_fits_80_columns(command, cli, sequence) -> None:
    cut(sequence / "step10")
    long = sequence / "step30-tokens126000000B-samples1000000000000"
    shutil.copytree(sequence / "step20", long)
    (sequence / "step20").rename(sequence / "step40")
    shutil.copytree(sequence / "step0", sequence / "step50")
    answer = cli("checkpoints", command, sequence)
    assert "step30-tokens" in answer.out
    shown = [line for line in answer.out.splitlines() if not line.startswith("  where:")]
    assert max(map(len, shown)) <= 80


def test_ls_as_json_is_exact_and_nothing_else(cli, sequence) -> None:
    cut(sequence / "step10")
    (sequence / "final").mkdir()
    shutil.copy(sequence / "step0" / "config.json", sequence / "final")
    answer = cli("checkpoints", "ls", sequence, "--json")
    assert (answer.code, answer.err) == (0, "")
    told = json.loads(answer.out)
    assert told["notes"] == ["left out of main, as their names have no step: final"]
    assert [(row["step"], row["loadable"], row["n_parameters"]) for row in told["checkpoints"]] == [
        (0, True, 10448),
        (10, False, None),
        (20, True, 10448),
    ]
    n_bytes = (sequence / "step0" / "model.safetensors").stat().st_size
    assert [row["n_bytes"] for row in told["checkpoints"]] == [n_bytes, n_bytes - 8, n_bytes]
    assert told["checkpoints"][1]["problems"][0]["fix"] == "copy or download the file again"


def test_notes_are_said_on_stderr_unless_quiet(cli, sequence) -> None:
    (sequence / "step99").mkdir()
    note = "note: left out of main, as they have no checkpoint: step99\n"
    assert cli("checkpoints", "ls", sequence).err == note
    assert cli("checkpoints", "ls", sequence, "-q").err == ""


def test_steps_choose(cli, tiny) -> None:
    told = json.loads(cli("checkpoints", "ls", tiny.model, "--steps", "10..20", "--json").out)
    assert [row["step"] for row in told["checkpoints"]] == [10, 20]


@pytest.mark.parametrize("command", ["ls", "verify"])
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["no/such/folder"], "there is no folder `no/such/folder`"),
        ([], "no model was given"),
        (["{main}", "--steps", "7"], "no checkpoint of main is left by --steps 7"),
        (["{main}", "--steps", "x"], "`x` is neither a step nor a range of steps"),
        (["{main}", "--tokenizer", "./none"], "--tokenizer `./none` is not a folder"),
    ],
)
def test_a_spec_that_names_nothing_is_exit_2(command, args, told, cli, tiny) -> None:
    answer = cli("checkpoints", command, *(arg.format(main=tiny.model) for arg in args))
    assert answer.code == 2
    assert told in answer.err
    assert answer.out == ""


def test_verify_of_a_sound_sequence_is_one_line_and_exit_0(cli, tiny) -> None:
    answer = cli("checkpoints", "verify", tiny.model)
    assert (answer.code, answer.out, answer.err) == (0, "main: 3 checkpoints, nothing found\n", "")


def test_verify_with_warnings_alone_is_exit_0(cli, sequence) -> None:
    config = json.loads((sequence / "step10" / "config.json").read_text())
    (sequence / "step10" / "config.json").write_text(json.dumps(config | {"rope_theta": 5}))
    answer = cli("checkpoints", "verify", sequence)
    assert answer.code == 0
    assert answer.out.startswith("main: 3 checkpoints, 1 warning")
    assert "rope_theta" in answer.out


def test_verify_with_what_stops_a_run_is_exit_2(cli, sequence) -> None:
    shutil.copytree(sequence / "step20", sequence / "step30")
    answer = cli("checkpoints", "verify", sequence)
    assert answer.code == 2
    assert "step20, step30" in answer.out
    assert "looks like" in answer.out
    assert answer.err.startswith("error: 1 finding that a run, or a run over time, refuses")
    told = json.loads(cli("checkpoints", "verify", sequence, "--json").out)
    ((finding,),) = (each["findings"] for each in told["sequences"])
    assert finding["kind"] == "same weights"
    assert finding["steps"] == [20, 30]
    assert finding["revisions"] == ["step20", "step30"]
    assert finding["stops"] is True
    assert "perfect retention" in finding["means"]


def test_verify_with_nothing_but_a_permission_lacking_is_exit_5(cli, sequence) -> None:
    import torch
    from safetensors.torch import load_file

    file = sequence / "step10" / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()
    assert cli("checkpoints", "verify", sequence).code == 5
    assert cli("checkpoints", "verify", sequence, "--allow-pickle").code == 0


def test_several_models_are_several_tables(cli, tiny, sequence) -> None:
    answer = cli("checkpoints", "ls", tiny.model, "-m", sequence / "step10")
    assert answer.out.count(" loadable, ") == 2
    told = json.loads(cli("checkpoints", "verify", tiny.model, sequence, "--json").out)
    assert len(told["sequences"]) == 2


def test_reading_tells_how_far_it_is_where_it_takes_long(cli, tiny, monkeypatch) -> None:
    from memprobe.cli import checkpoints

    monkeypatch.setattr(checkpoints, "_LINE_EVERY_S", 0.0)
    answer = cli("checkpoints", "verify", tiny.model)
    assert answer.err.splitlines() == [
        "reading weights: 1 of 3 checkpoints, 43.4 kB of 130 kB",
        "reading weights: 2 of 3 checkpoints, 86.9 kB of 130 kB",
        "reading weights: 3 of 3 checkpoints, 130 kB of 130 kB",
        "hashing weights: 1 of 3 checkpoints, 43.4 kB of 130 kB",
        "hashing weights: 2 of 3 checkpoints, 86.9 kB of 130 kB",
        "hashing weights: 3 of 3 checkpoints, 130 kB of 130 kB",
    ]
    assert cli("checkpoints", "verify", tiny.model, "-q").err == ""


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_torch_is_not_imported_where_there_is_nothing_to_look_into(command, sequence) -> None:
    for step in (0, 10, 20):
        cut(sequence / f"step{step}")
    # The tokenizer's file is read by the library that reads it in a run.
    heavy = [each for each in HEAVY if each != "tokenizers"]
    code = _ASK.format(args=[command, str(sequence)], heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == [{"ls": 0, "verify": 2}[command], []]


def edit(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


def test_ls_and_verify_name_what_a_run_refuses(cli, sequence) -> None:
    import torch

    edit(sequence / "step0", lambda weights: weights.update({"embed_out.bias": torch.zeros(256)}))
    edit(sequence / "step10", lambda weights: weights.pop("gpt_neox.final_layer_norm.bias"))
    config = json.loads((sequence / "step20" / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "hqq"}}
    (sequence / "step20" / "config.json").write_text(json.dumps(config | quantised))
    told = json.loads(cli("checkpoints", "ls", sequence, "--json").out)
    whats = [row["problems"][0]["what"] for row in told["checkpoints"]]
    assert [row["loadable"] for row in told["checkpoints"]] == [False] * 3
    assert "embed_out.bias (256)" in whats[0]
    assert "lack 1 parameter" in whats[1]
    assert "gpt_neox.final_layer_norm.bias" in whats[1]
    assert "hqq" in whats[2]
    assert told["checkpoints"][2]["problems"][0]["fix"] == "pip install hqq"
    answer = cli("checkpoints", "verify", sequence)
    assert answer.code == 2
    assert answer.err.startswith("error: 3 findings")


def test_verify_refuses_a_model_that_sees_later_tokens_as_a_run_does(cli, sequence) -> None:
    import torch
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for is_decoder in (True, False):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=256, max_position_embeddings=64, is_decoder=is_decoder, **sizes)
        BertLMHeadModel(config).save_pretrained(sequence / "step10")
        answer = cli("checkpoints", "verify", sequence, "--json")
        found = [each for each in json.loads(answer.out)["sequences"][0]["findings"] if each["stops"]]
        assert (answer.code, len(found)) == ((0, 0) if is_decoder else (2, 1))
    assert found[0]["revisions"] == ["step10"]
    assert "sees later tokens" in found[0]["what"]


def test_verify_refuses_what_scores_nan_as_a_run_does(cli, sequence, tiny, tmp_path) -> None:
    edit(sequence / "step10", lambda weights: weights["embed_out.weight"][3, 2].fill_(float("nan")))
    answer = cli("checkpoints", "verify", sequence, "--json")
    (found,) = [each for each in json.loads(answer.out)["sequences"][0]["findings"] if each["stops"]]
    assert (answer.code, found["revisions"], found["kind"]) == (2, ["step10"], "unloadable")
    assert "NaN or infinite (embed_out.weight)" in found["what"]
    answer = cli("run", "-m", sequence, "-d", tiny.items, "-p", "recall", "-o", tmp_path / "out")
    assert answer.code == 4
    assert "NaN" in answer.err


def test_one_of_several_alike_is_loaded_to_see_how_it_behaves(cli, tiny, monkeypatch) -> None:
    from memprobe.scoring import load

    loaded = []
    monkeypatch.setattr(load, "try_out", lambda checkpoint, **_: loaded.append(checkpoint.step) or True)
    assert cli("checkpoints", "verify", tiny.model).code == 0
    assert loaded == [0]


def test_a_large_model_is_not_loaded_to_be_verified(cli, tiny, monkeypatch) -> None:
    from memprobe.scoring import load

    monkeypatch.setattr(load, "TRIED_PARAMETERS_MAX", 100)
    monkeypatch.setattr(load, "load", lambda *_: pytest.fail("it was loaded"))
    assert cli("checkpoints", "verify", tiny.model).code == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("the weights lack it", "The weights lack it"),
        ("pip install optimum", "pip install optimum"),
        ("lm_head.weight differs", "lm_head.weight differs"),
        ("tokenizer.json is newer", "tokenizer.json is newer"),
    ],
)
def test_a_sentence_has_a_capital_but_for_names_and_commands(text: str, sentence: str) -> None:
    assert _sentence(text) == sentence


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (999, "999"), (1000, "1k"), (10_448, "10.4k"), (999_499, "999k"), (999_600, "1M")),
        *((162_322_944, "162M"), (6_857_302_016, "6.86B"), (1_040_000_000_000, "1,040B")),
    ],
)
def test_a_count_has_three_digits(number: int, text: str) -> None:
    assert _scaled(number) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (43_360, "43.4 kB"), (99_960, "100 kB")),
        *((999_600, "1.0 MB"), (13_840_000_000, "13.8 GB"), (2_500_000_000_000_000, "2,500 TB")),
    ],
)
def test_a_size_is_in_units_of_1000(n_bytes: int, text: str) -> None:
    assert sized(n_bytes) == text


def test_a_tokenizer_that_cannot_be_read_is_said_beforehand(cli, sequence) -> None:
    held = json.loads((sequence / "tokenizer.json").read_text())
    held["model"]["type"] = "BPE2"
    (sequence / "tokenizer.json").write_text(json.dumps(held))
    answer = cli("checkpoints", "verify", sequence)
    assert answer.code == 2
    assert "okenizer" in answer.out
