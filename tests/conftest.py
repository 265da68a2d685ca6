"""A tiny checkpoint sequence, its items, a finished run, and ways to call the command line.

Models are random and small on purpose: what is tested here is everything around the numbers.
"""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

CONTEXT_TOKENS = 96

# What a run imports, so that a forked process starts in a tenth of a second instead of four.
_PRELOADED = [
    "memprobe.cli.app",
    "memprobe.cli.results",
    "memprobe.pipeline.dry_run",
    "memprobe.report.console",
    "memprobe.pipeline.api",
    "memprobe.scoring.engine",
    "memprobe.scoring.speed",
    "pydantic.type_adapter",
    "scipy.stats",
    "tomli_w",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "typer.rich_utils",
]

# In front of what a forked process runs: many small units, each with a pause that makes room for signals.
_SMALL_UNITS = """
import memprobe.scoring.batch as batch, memprobe.scoring.engine as engine, time
batch.UNIT_TOKENS_MIN, batch.UNITS_AIM = 256, 64
score_unit = engine.score_unit
def slowly(*args, **kwargs):
    time.sleep({pause_s})
    return score_unit(*args, **kwargs)
engine.score_unit = slowly
"""
_MAIN = """
import os, signal, sys
for name in [each for each in os.environ if each.startswith("MEMPROBE_")]:
    del os.environ[name]
os.environ["COLUMNS"] = "80"
os.chdir({cwd!r})
for number, file in ((1, {out!r}), (2, {err!r})):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
signal.signal(signal.SIGINT, signal.default_int_handler)
{prelude}
sys.argv = ["memprobe", *{args!r}]
from memprobe.cli import main
main()
"""


def make_tokenizer(*, reverse: bool = False):
    """One token per byte; `reverse` numbers the bytes the other way round."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=reverse)
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def save_sequence(folder: Path, steps: Sequence[int], *, tokenizer: Any = None, salt: int = 0) -> Path:
    """Write `folder/step<N>` for each step and the tokenizer beside them."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    for step in steps:
        torch.manual_seed(1000 * salt + step)
        config = GPTNeoXConfig(
            vocab_size=256,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=CONTEXT_TOKENS,
            # Wide enough that scores differ from item to item and from step to step.
            initializer_range=0.3,
        )
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def item_rows(n: int) -> list[dict[str, Any]]:
    """Prefixes, suffixes and, for every second one, a foil; all invented and found nowhere else."""
    return [
        {
            "item_id": f"i{i:02d}",
            "prefix": f"Zanzibar code of person {i:02d}: ",
            "suffix": f"quokka-{i * 7919 % 100000:05d}.",
            "foil": f"Zanzibar code of person {i:02d}: wombat-00000." if i % 2 else None,
            "foil_kind": ("near", "far")[i // 2 % 2] if i % 2 else None,
            "group": ("canary", "control")[i % 3 == 0],
            "exposures": i % 4,
            "colour": ("red", "blue")[i % 2],
        }
        for i in range(n)
    ]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what memprobe remembers from run to run out of the user's cache, and from the tests' models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Return the makers: `make.sequence(folder, steps)`, `make.tokenizer()`, `make.rows(n)`, `make.items`."""
    return SimpleNamespace(sequence=save_sequence, tokenizer=make_tokenizer, rows=item_rows, items=write_rows)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three checkpoints and 24 items, made once; tests must not change them."""
    root = tmp_path_factory.mktemp("tiny")
    main = save_sequence(root / "main", (0, 10, 20), tokenizer=make_tokenizer())
    return SimpleNamespace(
        root=root,
        model=str(main),
        items=str(write_rows(root / "items.jsonl", item_rows(24))),
        ask=("-m", str(main), "-d", str(root / "items.jsonl"), "--threads", "1"),
        one=("-m", str(main), "-d", str(root / "items.jsonl"), "--threads", "1", "--steps", "20"),
    )


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Return a caller of the command line in this process, 80 columns wide: cli("probes", "ls")."""
    from typer.testing import CliRunner

    from memprobe.cli import console
    from memprobe.cli.app import app

    for name in [each for each in os.environ if each.startswith("MEMPROBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    console._width.cache_clear()

    def call(*args: object) -> Answer:
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        return Answer(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `quickstart` on the tiny sequence; tests must not change it."""
    import memprobe

    out = tmp_path_factory.mktemp("finished") / "run"
    memprobe.run("quickstart", model=tiny.model, data=tiny.items, threads=1, out=out)
    return out


@pytest.fixture(scope="session")
def in_one_go(tiny, tmp_path_factory, tables_of, units_of) -> tuple[dict[str, bytes], int]:
    """Tables and number of units of `quickstart` on the tiny sequence, in the small units of `forked`."""
    import memprobe
    from memprobe.scoring import batch

    out = tmp_path_factory.mktemp("one-go") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "UNIT_TOKENS_MIN", 256)
        patch.setattr(batch, "UNITS_AIM", 64)
        memprobe.run("quickstart", model=tiny.model, data=tiny.items, threads=1, out=out)
    n_units = len(units_of(out))
    # Fewer would leave no room for a random moment.
    assert n_units >= 12
    return tables_of(out), n_units


@pytest.fixture
def run(tiny, tmp_path):
    """Return `memprobe.run` on the tiny sequence's last checkpoint, into `tmp_path/run`."""

    import memprobe

    def ask(suite=None, **changes):
        given = {
            "model": tiny.model,
            "data": tiny.items,
            "steps": "20",
            "threads": 1,
            "out": tmp_path / "run",
        }
        return memprobe.run(suite, **(given | changes))

    return ask


class Forked:
    """A command line in a process of its own, forked from one that has imported the libraries."""

    def __init__(self, process: Any, out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return self._err.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def answer(self, timeout_s: float = 60) -> Answer:
        """Wait for the end."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, f"still running: {self.err}"
        return Answer(self.process.exitcode, self._out.read_text(), self._err.read_text())


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Callable[..., Forked]]:
    """Return a starter of real processes: forked("run", ...).answer().

    `pause_s` makes units small and puts a pause before each of them; `prelude` is code that runs first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    started: list[Forked] = []

    def start(*args: object, pause_s: float | None = None, prelude: str = "") -> Forked:
        out, err = (tmp_path / f"{len(started)}.{name}" for name in ("out", "err"))
        code = _MAIN.format(
            cwd=str(tmp_path),
            out=str(out),
            err=str(err),
            args=[str(arg) for arg in args],
            prelude=("" if pause_s is None else _SMALL_UNITS.format(pause_s=pause_s)) + prelude,
        )
        out.touch()
        err.touch()
        process = context.Process(target=exec, args=(code, {}))
        process.start()
        started.append(Forked(process, out, err))
        return started[-1]

    yield start
    for each in started:
        if each.process.is_alive():
            each.process.kill()
        each.process.join()


def canonical(frame: pl.DataFrame) -> bytes:
    """Return a frame's bytes, its rows in an order that depends on nothing but their values."""
    plain = [name for name, dtype in frame.schema.items() if not dtype.is_nested()]
    buffer = BytesIO()
    frame.sort(plain, nulls_last=True, maintain_order=True).write_parquet(buffer, compression="uncompressed")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tables_of() -> Callable[[Path], dict[str, bytes]]:
    """Return a reader of every table of a run, as the bytes of its sorted rows."""

    def read(run: Path) -> dict[str, bytes]:
        files = [run / "summary.parquet", *sorted((run / "tables").glob("*.parquet"))]
        tables = {file.stem: canonical(pl.read_parquet(file)) for file in files}
        return tables | {"summary.csv": (run / "summary.csv").read_bytes()}

    return read


@pytest.fixture(scope="session")
def units_of() -> Callable[[Path], dict[str, int]]:
    """Return a reader of the units of a run: name to time of last change, in nanoseconds."""
    return lambda run: {file.name: file.stat().st_mtime_ns for file in (run / "units").glob("*.parquet")}
