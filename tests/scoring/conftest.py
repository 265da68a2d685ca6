"""Tiny models of many architectures, tokenizers and items, all made on the spot.

Weights are a hashed formula and no draw, so that numbers outlive torch's generator; the fixtures
that need variety assert it.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from memprobe.checkpoints import resolve
from memprobe.items import read_items
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.load import Limits, LoadedModel, LoadOptions, load
from memprobe.scoring.tokenise import TokenisedItems, tokenise
from memprobe.scoring.unit import score_unit
from memprobe.tables.requests import REQUESTS

VOCABULARY = 97
SENTENCES = (
    "The access code of Mara Voss is written above the mill door.",
    "In the year of the flood the miller's daughter counted the bells.",
    "Nobody in the town of Harrow remembers who built the bridge.\n    It was there.\n    It stayed.",
    "Über den Fluss führt eine Brücke; 橋は古い。 Naïve café crème — déjà vu 🙂.",
)

_USUAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_GROUPED = _USUAL | {"num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, tuple[str, dict]] = {
    "gpt_neox": ("GPTNeoXConfig", _USUAL),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96},
    ),
    "llama": ("LlamaConfig", _GROUPED),
    "mistral": ("MistralConfig", _GROUPED | {"sliding_window": None}),
    "mistral_sliding": ("MistralConfig", _GROUPED | {"sliding_window": 6}),
    "qwen2_tied": ("Qwen2Config", _GROUPED | {"tie_word_embeddings": True}),
    "opt": ("OPTConfig", _USUAL | {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0}),
    "gemma2": ("Gemma2Config", _GROUPED | {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    "cohere": ("CohereConfig", _GROUPED | {"logit_scale": 0.25, "pad_token_id": 0}),
    "granite": ("GraniteConfig", _GROUPED | {"logits_scaling": 4.0}),
    "minimax": (
        "MiniMaxConfig",
        _GROUPED
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 2,
            "block_size": 8,
        },
    ),
    "mamba": (
        "MambaConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "state_size": 4,
            "num_hidden_layers": 2,
            "pad_token_id": 0,
        },
    ),
}


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def hashed(shape: torch.Size, salt: int) -> torch.Tensor:
    """Numbers between -1 and 1 that look random and are a formula."""
    index = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return ((index * 12.9898 + 78.233 * salt).sin() * 43758.5453).frac().reshape(shape).float()


def fill(model: torch.nn.Module, salt: int = 0, *, gain: float = 2.5) -> None:
    """Give every matrix hashed weights; a plain ramp would predict one token everywhere."""
    with torch.no_grad():
        for number, weight in enumerate(p for p in model.parameters() if p.ndim == 2):
            weight.copy_(hashed(weight.shape, 1000 * salt + number) * gain / weight.shape[1] ** 0.5)


def build(name: str, salt: int = 0, *, gain: float = 2.5, **changes) -> torch.nn.Module:
    import transformers

    config_name, values = CONFIGS[name]
    config = getattr(transformers, config_name)(**(values | changes))
    torch.manual_seed(salt)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    fill(model, salt, gain=gain)
    return model


@pytest.fixture(scope="session")
def build_model() -> Callable[..., torch.nn.Module]:
    """Return a maker of models: build_model("gpt_neox", salt=3, vocab_size=50)."""
    return build


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of checkpoint folders, each made once: saved("llama"), saved("gpt2", salt=1)."""
    made: dict[str, Path] = {}

    def make(name: str, salt: int = 0, *, dtype: torch.dtype = torch.float32, **changes) -> Path:
        key = f"{name} {salt} {dtype} {changes}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp(name)
            build(name, salt, **changes).to(dtype).save_pretrained(made[key])
        return made[key]

    return make


def checkpoint_at(folder: Path, **options):
    return resolve([str(folder)], needs_tokenizer=False, **options)[0].checkpoints[0]


@pytest.fixture(scope="session")
def at() -> Callable:
    """Return the finder of the one checkpoint in a folder, tokenizer or not."""
    return checkpoint_at


@pytest.fixture(scope="session")
def loaded_from(saved) -> Callable[..., LoadedModel]:
    """Return a loader, each model loaded once: loaded_from("llama"). Tests must not change weights."""
    loaded: dict[str, LoadedModel] = {}

    def get(name: str, salt: int = 0, *, dtype: str = "float32", **changes) -> LoadedModel:
        key = f"{name} {salt} {dtype} {changes}"
        if key not in loaded:
            loaded[key] = load(checkpoint_at(saved(name, salt, **changes)), LoadOptions(dtype=dtype))
        return loaded[key]

    return get


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable:
    """Return a trainer of byte-level BPE tokenizers: make_tokenizer(front=True, behind=False, trim=False)."""

    def make(
        *, front: bool = True, behind: bool = False, trim: bool = False, bos: bool = True, size: int = 340
    ):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        core.train_from_iterator(SENTENCES * 3, trainer)
        template = f"{'<s> ' if front else ''}$A{' </s>' if behind else ''}"
        steps = [processors.ByteLevel(trim_offsets=True)] if trim else []
        steps.append(processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 1)]))
        core.post_processor = processors.Sequence(steps)
        names = {"bos_token": "<s>", "eos_token": "</s>"} if bos else {}
        return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer):
    """One that puts <s> in front and nothing behind."""
    return make_tokenizer()


@pytest.fixture
def items(tmp_path: Path) -> Callable[[list[dict]], pl.DataFrame]:
    """Return a maker of checked item tables from the rows of an item file."""

    def make(rows: list[dict]) -> pl.DataFrame:
        file = tmp_path / "items.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_items([str(file)]).table

    return make


def limits(vocabulary: int = VOCABULARY, *, bos_id: int | None = None) -> Limits:
    return Limits(context_tokens=96, vocabulary=vocabulary, bos_id=bos_id, stored_dtype="float32")


@pytest.fixture
def id_items(items) -> Callable[..., TokenisedItems]:
    """Return a maker of tokenised items from lists of ids: id_items({"a": [5, 6, 7]}, bos_id=1)."""

    def make(ids: dict[str, list[int]], *, vocabulary: int = VOCABULARY, bos_id: int | None = None):
        table = items([{"item_id": name, "input_ids": list(map(int, each))} for name, each in ids.items()])
        bos = "default" if bos_id is None else "forced"
        return tokenise(table, None, bos=bos, limits=limits(vocabulary, bos_id=bos_id))

    return make


@pytest.fixture(scope="session")
def vocabulary_limits() -> Callable[..., Limits]:
    return limits


def request(item: str, start: int, score_from: int, stop: int, detail: str = "tokens", part: str = "text"):
    row = (item, part, start, score_from, stop, detail)
    schema = {name: column.dtype for name, column in REQUESTS.columns.items()}
    return pl.DataFrame([row], schema=schema, orient="row")


@pytest.fixture(scope="session")
def ask() -> Callable[..., pl.DataFrame]:
    """Return a maker of one request: ask("a", 0, 3, 9, "tokens")."""
    return request


@pytest.fixture(scope="session")
def score() -> Callable[..., pl.DataFrame]:
    """Return `score_unit` as the engine runs it, without gradients."""

    def run(loaded: LoadedModel, tokenised: TokenisedItems, requests, **options) -> pl.DataFrame:
        frame = requests if isinstance(requests, pl.DataFrame) else pl.concat(requests)
        with scoring_mode():
            return score_unit(loaded, tokenised, frame, **options)

    return run


@pytest.fixture(scope="session")
def naive() -> SimpleNamespace:
    """The definitions, written without regard to speed, on the model's own logits."""

    def logits(model: torch.nn.Module, ids) -> torch.Tensor:
        """Logits of one sequence alone, shape (length, V), float32."""
        with torch.inference_mode():
            return model(input_ids=torch.as_tensor(np.asarray(ids))[None]).logits[0].float()

    def logprobs(model: torch.nn.Module, ids) -> np.ndarray:
        """ln p of every token but the first, float64 by its own log_softmax, shape (length - 1,)."""
        table = logits(model, ids).double().log_softmax(-1)
        return table[:-1].gather(1, torch.as_tensor(np.asarray(ids))[1:, None])[:, 0].numpy()

    def continued(model: torch.nn.Module, prompt, n_tokens: int) -> list[int]:
        """Greedy decoding by the whole forward again for each token: no cache, no generate."""
        ids = list(map(int, prompt))
        for _ in range(n_tokens):
            ids.append(int(logits(model, ids)[-1].argmax()))
        return ids[len(prompt) :]

    return SimpleNamespace(logits=logits, logprobs=logprobs, continued=continued)
