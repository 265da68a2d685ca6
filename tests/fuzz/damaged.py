"""What the fuzzer damages: model folders, run directories and command lines; see inputs.py."""

import json
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.fuzz.inputs import DOCUMENTED, OK, PARTIAL, UNJUDGED, UNSAFE, USAGE, Draw, Input
from tests.fuzz.worlds import Naive, World

# Model folders

# None of them makes a model larger than twice what its weights hold.
_CONFIG_VALUES = (None, -1, 0, 1, 3, 2.5, "x", "", True, [], {}, [1], "16", 1e30, float("nan"), 17)
_CONFIG_KEYS = (
    *("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers", "vocab_size"),
    *("max_position_embeddings", "rotary_pct", "hidden_act", "layer_norm_eps", "use_parallel_residual"),
    *("model_type", "architectures", "torch_dtype", "dtype", "tie_word_embeddings", "bos_token_id"),
    *("eos_token_id", "rope_scaling", "rope_parameters", "attention_bias", "is_decoder", "auto_map"),
    *("quantization_config", "transformers_version", "initializer_range", "hidden_dropout", "unheard_of"),
)


def _config(draw: Draw, step: Path) -> str:
    file = step / "config.json"
    config = json.loads(file.read_text())
    for _ in range(draw.randint(1, 2)):
        key = draw.choice(_CONFIG_KEYS)
        if draw.random() < 0.2:
            config.pop(key, None)
        else:
            config[key] = draw.choice(_CONFIG_VALUES)
    file.write_text(json.dumps(config))
    return f"config {json.dumps({key: config.get(key) for key in _CONFIG_KEYS})[:300]}"


def _tensors(change: Callable[[Draw, dict[str, torch.Tensor]], str]) -> Callable[[Draw, Path], str]:
    def apply(draw: Draw, step: Path) -> str:
        file = step / "model.safetensors"
        tensors = {name: each.clone() for name, each in load_file(file).items()}
        told = change(draw, tensors)
        save_file(tensors, file, metadata={"format": "pt"})
        return told

    return apply


def _rename(draw: Draw, tensors: dict[str, torch.Tensor]) -> str:
    name = draw.choice(sorted(tensors))
    tensors[name.replace("attention", "attn") + "_x"] = tensors.pop(name)
    return f"renamed {name}"


def _remove(draw: Draw, tensors: dict[str, torch.Tensor]) -> str:
    name = draw.choice(sorted(tensors))
    del tensors[name]
    return f"removed {name}"


def _add(draw: Draw, tensors: dict[str, torch.Tensor]) -> str:
    name = draw.choice(sorted(tensors))
    end = draw.choice((".lora_A.weight", ".lora_B.weight", "_scale", ".scales", ".qweight", ".extra"))
    tensors[name.removesuffix(".weight") + end] = torch.ones(4, 4)
    return f"added {name}{end}"


def _retype(draw: Draw, tensors: dict[str, torch.Tensor]) -> str:
    name = draw.choice(sorted(tensors))
    dtype = draw.choice((torch.int8, torch.uint8, torch.int64, torch.bool))
    tensors[name] = tensors[name].to(dtype)
    return f"{name} as {dtype}"


def _reshape(draw: Draw, tensors: dict[str, torch.Tensor]) -> str:
    name = draw.choice(sorted(tensors))
    tensors[name] = tensors[name].flatten()[:-1].contiguous()
    return f"{name} of another shape"


def _not_finite(draw: Draw, tensors: dict[str, torch.Tensor]) -> str:
    name = draw.choice(sorted(tensors))
    tensors[name] = tensors[name] * float(draw.choice(("nan", "inf")))
    return f"{name} is not finite"


def _cut(draw: Draw, step: Path) -> str:
    file = step / draw.choice(("model.safetensors", "config.json"))
    data = file.read_bytes()
    file.write_bytes(data[: draw.randrange(len(data))])
    return f"cut {file.name}"


def _pointer(draw: Draw, step: Path) -> str:
    (step / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
    )
    return "a Git-LFS pointer"


def _missing(draw: Draw, step: Path) -> str:
    file = step / draw.choice(("model.safetensors", "config.json"))
    file.unlink()
    return f"no {file.name}"


def _junk(draw: Draw, step: Path) -> str:
    name = draw.choice(("generation_config.json", "adapter_config.json", "model.safetensors.index.json"))
    (step / name).write_text(draw.choice(("{", "[]", "null", "{}", '{"weight_map": 3}', "\0")))
    return f"junk in {name}"


def _untouched(draw: Draw, step: Path) -> str:
    return "untouched"


_FAILS = frozenset({USAGE, PARTIAL})
_MAY = frozenset({OK, USAGE, PARTIAL, UNSAFE})
_MODELS: dict[str, tuple[Callable[[Draw, Path], str], frozenset[int]]] = {
    "untouched": (_untouched, frozenset({OK})),
    "config": (_config, _MAY),
    "config-again": (_config, _MAY),
    "config-and-more": (_config, _MAY),
    "rename": (_tensors(_rename), _FAILS),
    "remove": (_tensors(_remove), _FAILS),
    "add": (_tensors(_add), _MAY),
    "retype": (_tensors(_retype), _FAILS),
    "reshape": (_tensors(_reshape), _FAILS),
    "not-finite": (_tensors(_not_finite), _FAILS),
    "cut": (_cut, _FAILS),
    "pointer": (_pointer, _FAILS),
    "missing": (_missing, _FAILS | {OK}),
    "junk": (_junk, _MAY),
}
_TOKENIZER_VALUES = (None, 3, "x", [], {}, [{}], {"type": "Unheard"}, {"type": "NFC"}, True)


def _tokenizer(draw: Draw, main: Path) -> str:
    file = main / draw.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json"))
    content = json.loads(file.read_text())
    key = draw.choice(sorted(content))
    how = draw.choice(("drop", "set", "set", "cut"))
    if how == "cut":
        data = file.read_bytes()
        file.write_bytes(data[: draw.randrange(len(data))])
        return f"cut {file.name}"
    if how == "drop":
        del content[key]
    else:
        content[key] = draw.choice(_TOKENIZER_VALUES)
    file.write_text(json.dumps(content))
    return f"{file.name} {how} {key} {content.get(key)!r}"


def models(seed: int, folder: Path, world: World, naive: dict[str, Naive]) -> Input:
    """A sequence with something done to its second checkpoint, or to its tokenizer."""
    draw = Draw(f"models-{seed}")
    main = shutil.copytree(world.main, folder / "main")
    out = folder / "run"
    command = draw.choice(("run", "run", "run", "run", "dry", "ls", "verify"))
    args = {
        "run": ["run", "-p", "recall", "-m", str(main), "-d", str(world.items), "-o", str(out)],
        "dry": ["run", "-p", "recall", "-m", str(main), "-d", str(world.items), "-o", str(out), "--dry-run"],
        "ls": ["checkpoints", "ls", str(main)],
        "verify": ["checkpoints", "verify", str(main)],
    }[command]
    args += ["--threads", "1"] if args[0] == "run" else []
    if draw.random() < 0.2:
        says = _tokenizer(draw, main)
        # Another tokenizer reads other ids: the numbers are another question's.
        return Input(args, _MAY | {UNJUDGED}, says=f"{command} {says}")
    name = draw.choice(sorted(_MODELS))
    change, codes = _MODELS[name]
    says = change(draw, main / "step2")
    if command != "run":
        return Input(args, DOCUMENTED, says=f"{command} {name}: {says}")
    # Without a configuration of its own a folder is no checkpoint, and the sequence has one.
    revisions = {"step1": world.main / "step1", "step2": main / "step2"}
    rows = [json.loads(line) for line in world.items.read_text().splitlines()]
    return Input(args, codes, out, rows, revisions=revisions, says=f"{name}: {says}")


# Run directories


def runs(seed: int, folder: Path, world: World, naive: dict[str, Naive]) -> Input:
    """A run directory with files removed, cut, flipped, swapped or replaced, and a command on it."""
    draw = Draw(f"runs-{seed}")
    run = shutil.copytree(world.run, folder / "run")
    says = _damage(draw, run)
    command = draw.choice(
        ("run", "run", "worker", "summary", "status", "export", "gate", "compare", "report", "items")
    )
    asked = ["run", "-p", "recall", "-m", str(world.main), "-d", str(world.items), "-o", str(run)]
    args = {
        "run": [*asked, "--threads", "1"],
        "worker": ["worker", str(run), "--threads", "1"],
        "summary": ["summary", str(run), "--json"],
        "status": ["status", str(run)],
        "export": ["export", str(run), "--table", "recall", "--to", "csv"],
        "items": ["export", str(run), "--table", "items", "--to", "json"],
        "gate": ["gate", str(run), "--rules", str(world.rules), "--json"],
        "compare": ["compare", str(world.run), str(run), "--json"],
        "report": ["report", str(run), "-o", str(folder / "page.html")],
    }[command]
    same = run if command == "run" else None
    return Input(args, frozenset({0, 1, 2, 3, 4}), run=same, same_as=world.run, says=f"{command}: {says}")


def _damage(draw: Draw, run: Path) -> str:
    files = sorted(each for each in run.rglob("*") if each.is_file())
    file = draw.choice(files)
    name = str(file.relative_to(run))
    how = draw.choice(("remove", "cut", "flip", "flip", "flip", "swap", "empty", "folder", "key", "nothing"))
    data = file.read_bytes()
    if how == "remove":
        file.unlink()
    elif how == "cut":
        file.write_bytes(data[: draw.randrange(max(1, len(data)))])
    elif how == "flip":
        changed = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            changed[at] ^= 1 << draw.randrange(8)
        file.write_bytes(bytes(changed))
    elif how == "swap":
        other = draw.choice([each for each in files if each.suffix == file.suffix])
        file.write_bytes(other.read_bytes())
        other.write_bytes(data)
        name += f" and {other.relative_to(run)}"
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "key":
        name = _other_key(draw, run / "manifest.json")
    return f"{how} {name}"


def _other_key(draw: Draw, file: Path) -> str:
    manifest: Any = json.loads(file.read_text())
    inner = manifest
    path = []
    while isinstance(inner, dict | list) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw.choice(keys)
        path.append(key)
        if draw.random() < 0.4 or not isinstance(inner[key], dict | list) or not inner[key]:
            if draw.random() < 0.4:
                del inner[key]
            else:
                inner[key] = draw.choice((None, 3, "x", [], {}, -1, 2**70, True, [[[]]]))
            break
        inner = inner[key]
    file.write_text(json.dumps(manifest))
    return "manifest " + ".".join(map(str, path))


# Command lines

_NUMBERS = ("-1", "0", "1", "2", "3", "7", "999999999999", "9" * 25, "9" * 5000, "x", "", "1.5", "nan", "٣")
_WORDS = (
    "",
    "x",
    "recall",
    "exact_frac",
    "é→中",
    "--",
    "-",
    "\x1b[31m",
    "a" * 5000,
    "auto",
    "last",
    "*",
    "..",
)
_COMMANDS = (
    *("probes ls", "probes describe", "status", "summary", "export", "plot", "compare", "gate", "init"),
    *("data check", "data split", "data sort", "checkpoints ls", "checkpoints verify", "worker", "report"),
    *("doctor", "run", "lab train"),
)
_NUMERIC = ("batch_tokens", "keep_checkpoints", "steps", "shard", "excerpt_words", "segment_words")
# Flags that would use the network, wait long, show tracebacks, or end in another program.
_LEFT_OUT = {
    "--no-offline",
    "--help",
    "--verbose",
    "-v",
    "--invariance",
    "--trust-remote-code",
    "--install-completion",
}


def options(seed: int, folder: Path, world: World, naive: dict[str, Naive]) -> Input:
    """A command with arguments and flags of its own, their values from pools of good and absurd ones."""
    import typer

    from memprobe.cli.app import app

    draw = Draw(f"options-{seed}")
    paths = _paths(draw, folder, world)
    command = draw.choice(_COMMANDS)
    group = typer.main.get_command(app)
    for word in command.split():
        group = group.commands[word]  # type: ignore[attr-defined]
    args = command.split()
    flags = [each for each in group.params if getattr(each, "opts", [""])[0].startswith("-")]
    for _ in range(len(group.params) - len(flags)):
        if draw.random() < 0.95:
            args.append(draw.choice(paths) if draw.random() < 0.8 else draw.choice(_WORDS))
    wanted = [each for each in flags if each.required and draw.random() < 0.9]
    wanted += draw.sample(flags, min(len(flags), draw.choice((0, 1, 1, 2, 3))))
    environment = {}
    for each in dict.fromkeys(wanted):
        names = [name for name in (*each.opts, *each.secondary_opts) if name not in _LEFT_OUT]
        if not names or (command == "lab train" and each.name not in ("text", "out", "seed", "threads")):
            continue
        name = draw.choice(names)
        if getattr(each, "is_flag", False):
            args.append(name)
            continue
        value = _value(draw, each, paths)
        if draw.random() < 0.15 and name.startswith("--") and value:
            environment["MEMPROBE_" + name[2:].replace("-", "_").upper()] = value.replace("\0", "")
        else:
            args += [name, value]
    if command == "run":
        args += ["-o", str(folder / "o")]
    if command == "lab train":
        args += ["--updates", "1", "--checkpoints", "1", "--hidden", "8", "--layers", "1"]
    if command == "worker":
        # Where there is no run yet, a worker waits for one, as long as ten minutes.
        args = [
            each if each == "worker" or Path(each).is_file() else str(folder / "copy") for each in args[:2]
        ]
    return Input(args, DOCUMENTED, environment=environment, says=" ".join(each[:60] for each in args))


def _value(draw: Draw, option: Any, paths: list[str]) -> str:
    annotation = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    kind = str(annotation).lower()
    if choices and draw.random() < 0.8:
        return str(draw.choice(choices))
    if (
        "int" in kind
        or "float" in kind
        or option.name in ("batch_tokens", "keep_checkpoints", "steps", "shard")
    ):
        return draw.choice(_NUMBERS)
    if "path" in kind or option.name in ("model", "data", "text", "tokenizer", "control"):
        return draw.choice(paths)
    return draw.choice((*_WORDS, *_NUMBERS, *paths))


def _paths(draw: Draw, folder: Path, world: World) -> list[str]:
    """Return paths of all sorts; those that could be written to are copies."""
    run = shutil.copytree(world.run, folder / "copy")
    (folder / "empty").mkdir()
    (folder / "junk.toml").write_text("a = [")
    (folder / "words.txt").write_text("plain words of nobody\n" * 5)
    return [
        *map(str, (run, run, run / "manifest.json", world.main, world.items, world.rules)),
        *(str(folder / name) for name in ("empty", "nowhere", "junk.toml", "words.txt", "out.csv")),
        *("org/name", "hf:nobody:train", "s.toml"),
    ]
