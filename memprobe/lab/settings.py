"""Settings, progress and result of a lab."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from memprobe.errors import InputError, Problem
from memprobe.lab.questions import LEAST_CONTEXT_TOKENS
from memprobe.lab.tokenizer import MIN_VOCABULARY
from memprobe.wording import counted

Phase = Literal["tokenizer", "main", "twin"]


@dataclass(frozen=True, slots=True)
class LabProgress:
    """Progress of the training.

    Attributes:
        phase: The tokenizer, the main sequence, or its twin.
        update: Optimizer updates done in this phase.
        n_updates: Optimizer updates of this phase; 0 for the tokenizer.
        loss_nats: Mean loss of the last batch of text, nats per token; None before the first update.
        right_frac: Share of the last sort questions answered right; None: none are asked.
    """

    phase: Phase
    update: int
    n_updates: int
    loss_nats: float | None
    right_frac: float | None = None


OnProgress = Callable[[LabProgress], None]


@dataclass(frozen=True, slots=True)
class LabResult:
    """The files of a finished lab.

    Attributes:
        folder: The lab's folder, with `lab.json` (what was asked, counts, versions).
        main: The checkpoint sequence, `step<N>` folders.
        twin: The sequence trained without the left-out items; None if there is none.
        items: The item file, with text, readable by its owner alone.
        truth: One row per exposure, as Parquet.
        seconds: Wall-clock time of the training, tokenizer and writing included.
        asked: The request; two labs with the same request are the same.
        counts: Items by group, and for texts also windows dropped or left out.
    """

    folder: Path
    main: Path
    twin: Path | None
    items: Path
    truth: Path
    seconds: float
    asked: Mapping[str, object]
    counts: Mapping[str, int]

    @property
    def sequences(self) -> tuple[Path, ...]:
        """The checkpoint sequences: main, then its twin if there is one."""
        return (self.main,) if self.twin is None else (self.main, self.twin)


# What a lab could never use, and memory could not hold.
_MOST, _MOST_PARAMETERS = 10_000_000, 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Model and training; checked when it is made.

    Attributes:
        hidden: Width of the model.
        layers: Transformer blocks.
        heads: Attention heads; must divide `hidden`, with an even quotient.
        context_tokens: Tokens of a window of text, and the longest input of the model.
        updates: Optimizer updates.
        checkpoints: Checkpoints saved after training began, evenly spaced, the last after the last
            update; the untrained model is saved as step 0 next to them.
        batch_sequences: Sequences per update. Small batches memorise, large ones do not.
        learning_rate: Peak of AdamW's learning rate: linear warmup, cosine decay to a tenth.
        vocabulary: Tokens of the tokenizer, at most.
        passes: How often each window of text is trained on; with `updates` and `batch_sequences`
            it decides how much of the text is used.
        seed: Seed of weights, selection and order.
        sort_questions: Questions in the format of SORT that are mixed into the training, evenly; 0: none.
            They use words of the texts in random order, so they change no exposure. The model is then a
            GPT-2, which has learned positions, instead of a GPT-NeoX.

    Raises:
        InputError: A value is impossible; all of them are listed.
    """

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    context_tokens: int = 128
    updates: int = 560
    checkpoints: int = 8
    batch_sequences: int = 4
    learning_rate: float = 2e-3
    vocabulary: int = 4096
    passes: int = 30
    seed: int = 0
    sort_questions: int = 0

    def __post_init__(self) -> None:
        problems = [*self._range_problems()] or [*self._relation_problems()]
        if problems:
            raise InputError(problems)

    def _range_problems(self) -> Iterator[Problem]:
        least = {"context_tokens": 2, "vocabulary": MIN_VOCABULARY, "seed": 0, "sort_questions": 0}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name == "learning_rate":
                if not 0 < value < 1:
                    yield Problem(f"learning_rate is {value}", fix="give a number above 0 and below 1")
            elif value < (lowest := least.get(setting.name, 1)):
                yield Problem(f"{setting.name} is {value}", fix=f"give {lowest} or more")
            elif value > (most := 2**63 - 1 if setting.name == "seed" else _MOST):
                yield Problem(f"{setting.name} is {value:.3g}", fix=f"give {most:,} or less")

    def _relation_problems(self) -> Iterator[Problem]:
        if (n := self.layers * 12 * self.hidden**2 + 2 * self.vocabulary * self.hidden) > _MOST_PARAMETERS:
            yield Problem(
                f"the model would have {n:.2g} parameters, and a lab is trained on the spot",
                fix=f"give fewer layers or a smaller width, for {_MOST_PARAMETERS:.0e} parameters at most",
            )
        if self.hidden % (2 * self.heads):
            yield Problem(
                f"hidden {self.hidden} cannot be cut into {self.heads} heads of even width",
                fix=f"give a multiple of {2 * self.heads} for hidden, or other heads",
            )
        if self.checkpoints > self.updates:
            yield Problem(
                f"{counted(self.checkpoints, 'checkpoint')} asked for in {counted(self.updates, 'update')}",
                fix="give at most one checkpoint per update",
            )
        if 0 < self.sort_questions < self.updates:
            yield Problem(
                f"{counted(self.sort_questions, 'sort question')} in {counted(self.updates, 'update')}",
                fix="give 0, or at least one question per update",
            )
        if self.sort_questions and self.context_tokens < LEAST_CONTEXT_TOKENS:
            yield Problem(
                f"context_tokens is {self.context_tokens}, sort questions take up to {LEAST_CONTEXT_TOKENS}",
                fix=f"give {LEAST_CONTEXT_TOKENS} or more for the context, or no sort questions",
            )

    @property
    def questions_per_update(self) -> int:
        """Sort questions of each update, rounded."""
        return round(self.sort_questions / self.updates)

    def saved_steps(self) -> tuple[int, ...]:
        """Updates after which a checkpoint is saved, in rising order from 0 to `updates`."""
        return tuple(round(self.updates * i / self.checkpoints) for i in range(self.checkpoints + 1))
