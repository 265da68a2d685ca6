"""The training loop: one small GPT-NeoX or GPT-2, AdamW, checkpoints in the format of the hub.

A sequence holds one item, so an item is trained on exactly as it is measured: alone, from its
first character, behind the end-of-text token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, isfinite, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memprobe.errors import InvalidRunError
from memprobe.lab.asking import Asking
from memprobe.lab.questions import QuestionSource
from memprobe.lab.settings import LabProgress, OnProgress, Phase, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GPT2LMHeadModel, GPTNeoXForCausalLM, PreTrainedTokenizerFast

WARMUP_FRAC = 0.05
FINAL_LEARNING_RATE_FRAC = 0.1
MAX_GRADIENT_NORM = 1.0
WEIGHT_DECAY = 0.01
IGNORED = -100
# Wide enough for queries and keys of one token to find each other from the start.
_GPT2_INITIAL_SD, _GPT2_HEAD_FRAC = 0.1, 0.2


@dataclass(frozen=True, slots=True)
class Course:
    """The training data and the folder of one sequence of checkpoints.

    Attributes:
        phase: The name passed to `progress`.
        folder: Folder that receives the `step<N>` folders.
        sequences: Token ids of each training sequence, the first one not predicted.
        batches: For each update, indices into `sequences`.
        questions: Makes the source of the questions asked with each batch; None: none are asked.
    """

    phase: Phase
    folder: Path
    sequences: Sequence[Sequence[int]]
    batches: Sequence[Sequence[int]]
    questions: Callable[[], QuestionSource] | None = None


def train_sequence(
    course: Course,
    tokenizer: "PreTrainedTokenizerFast",
    settings: TrainSettings,
    *,
    threads: int | None,
    progress: OnProgress,
) -> None:
    """Train a model from scratch and save its checkpoints, step 0 first.

    The same course, settings and thread count give the same weights. torch's random state and thread
    count are restored afterwards.

    Raises:
        InvalidRunError: The loss became NaN or infinite.
    """
    import torch

    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        with torch.random.fork_rng(devices=[]), _without_bars():
            torch.manual_seed(settings.seed)
            _train(course, tokenizer, settings, progress)
    finally:
        torch.set_num_threads(threads_before)


def _train(
    course: Course, tokenizer: "PreTrainedTokenizerFast", settings: TrainSettings, progress: OnProgress
) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    model, asking = _pupil(course, tokenizer, settings)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *(asking.parameters() if asking else ())],
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    to_save = set(settings.saved_steps())
    _save(model, tokenizer, course.folder / "step0")
    for update, batch in enumerate(course.batches, start=1):
        for parameters in optimizer.param_groups:
            parameters["lr"] = learning_rate(update, settings)
        ids, targets = _collate([course.sequences[i] for i in batch])
        # Typed as Any because torch leaves `backward` without types.
        loss: Any = cross_entropy(
            model(input_ids=ids, use_cache=False).logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
        )
        loss_nats = loss.item()
        _check(loss_nats, update, settings)
        if asking:
            loss = loss + asking.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if update in to_save:
            _save(model, tokenizer, course.folder / f"step{update}")
        right_frac = asking.source.right_frac if asking else None
        progress(LabProgress(course.phase, update, len(course.batches), loss_nats, right_frac))


def learning_rate(update: int, settings: TrainSettings) -> float:
    """Learning rate of the 1-based `update`: linear warmup, then cosine decay to a tenth of the peak."""
    n_warmup = max(1, round(WARMUP_FRAC * settings.updates))
    if update <= n_warmup:
        return settings.learning_rate * update / n_warmup
    done_frac = (update - n_warmup) / max(1, settings.updates - n_warmup)
    height = FINAL_LEARNING_RATE_FRAC + (1 - FINAL_LEARNING_RATE_FRAC) * (1 + cos(pi * done_frac)) / 2
    return settings.learning_rate * height


def _pupil(
    course: Course, tokenizer: "PreTrainedTokenizerFast", settings: TrainSettings
) -> "tuple[GPTNeoXForCausalLM | GPT2LMHeadModel, Asking | None]":
    """Return an untrained model, and the `Asking` that trains it on questions, if any."""
    if course.questions is None:
        return _new_model(tokenizer, settings), None
    model = _new_asked_model(tokenizer, settings)
    return model, Asking(course.questions(), settings.questions_per_update, model)


def _new_model(tokenizer: "PreTrainedTokenizerFast", settings: TrainSettings) -> "GPTNeoXForCausalLM":
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.hidden,
        max_position_embeddings=settings.context_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return GPTNeoXForCausalLM(config).train()


def _new_asked_model(tokenizer: "PreTrainedTokenizerFast", settings: TrainSettings) -> "GPT2LMHeadModel":
    """Make a GPT-2, whose learned positions can be compared from the first block on.

    Keys start equal to queries, so that a token attends to its copies from the start, after Trockman and
    Kolter (2023), "Mimetic initialization of self-attention layers", https://arxiv.org/abs/2305.09828.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=settings.hidden,
        n_layer=settings.layers,
        n_head=settings.heads,
        n_positions=settings.context_tokens,
        initializer_range=_GPT2_INITIAL_SD,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(_GPT2_HEAD_FRAC)
        for block in model.transformer.h:
            queries, keys, _ = block.attn.c_attn.weight.split(settings.hidden, dim=1)
            keys.copy_(queries)
    return model.train()


def _collate(sequences: Sequence[Sequence[int]]) -> "tuple[Tensor, Tensor]":
    """Pad on the right: inputs and next tokens, both of shape (batch, longest - 1)."""
    import torch

    width = max(map(len, sequences)) - 1
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    targets = torch.full_like(ids, IGNORED)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        targets[row, : len(sequence) - 1] = torch.tensor(sequence[1:])
    return ids, targets


def _check(loss_nats: float, update: int, settings: TrainSettings) -> None:
    if not isfinite(loss_nats):
        raise InvalidRunError(
            f"the training broke down: loss {loss_nats} at update {update} of {settings.updates}",
            fix=f"lower the learning rate, now {settings.learning_rate}",
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for each saved checkpoint; `progress` is called instead."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _save(model: "GPTNeoXForCausalLM", tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
