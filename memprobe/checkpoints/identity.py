"""Data classes for checkpoints and sequences, and for what lies between a spec and its sequence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from memprobe.checkpoints.names import Named
from memprobe.errors import CheckpointError, Problem, SafetyError, UnloadableError
from memprobe.wording import listed

WeightsFormat = Literal["safetensors", "pickle", "lora"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model at one moment of its training.

    Attributes:
        model: Hub id, or the name of the sequence's folder.
        revision: Git revision, or the name of the checkpoint's folder.
        step: Number of optimizer updates; position from 0 in a sequence whose names have no step; None for a
            single checkpoint whose name has none.
        folder: Folder of the files; None for a hub checkpoint that is not in the cache yet.
        repo: Hub id; None for a folder.
        tokenizer_folder: Folder of the tokenizer: the one of `--tokenizer`, else that of the checkpoint, its
            parent folder or its base; None if there is no tokenizer.
        weights_format: How the weights are stored.
        weight_files: Names within `folder`, sorted.
        n_bytes: Total size of the weight files, including those of `base`.
        n_parameters: Count of numbers in the weight files; None if unknown, as for pickle, a corrupt
            header, or before the fetch.
        dtype: Most common dtype of these numbers, such as `bfloat16`; None in the same cases.
        commit: The commit of the revision, 40 hex digits; None for a folder.
        base: The model that a LoRA adapter changes; None for other formats.
        config_folder: Folder of config.json while `folder` is None: the snapshot that will get the weights.
        weight_sha256: SHA-256 of each weight file as the hub lists it; None if the files were here already.
        problems: Why the checkpoint cannot be loaded; empty if it can. A run records such a checkpoint as
            failed; only its location and step are certain, and the other fields may be placeholders.
    """

    model: str
    revision: str
    step: int | None
    folder: Path | None
    repo: str | None
    tokenizer_folder: Path | None
    weights_format: WeightsFormat
    weight_files: tuple[str, ...]
    n_bytes: int
    n_parameters: int | None
    dtype: str | None
    commit: str | None = None
    base: "Checkpoint | None" = None
    config_folder: Path | None = None
    weight_sha256: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def label(self) -> str:
        """`model@revision`, for messages."""
        return f"{self.model}@{self.revision}"

    @property
    def whole(self) -> "Checkpoint":
        """The checkpoint that has config and architecture: the base of a LoRA adapter, else this one."""
        return self.base or self

    def check_loadable(self) -> None:
        """Refuse a checkpoint that cannot be read at all.

        Raises:
            UnloadableError: The checkpoint has `problems`.
        """
        if self.problems:
            raise UnloadableError(self.problems)

    @property
    def small_files(self) -> Path:
        """Folder of config.json and other small files, which are here even if the weights are not.

        Raises:
            ValueError: There is no such folder.
        """
        folder = self.folder or self.config_folder
        if folder is None:
            raise ValueError(f"expected a checkpoint with a folder, got {self.label}")
        return folder


@dataclass(frozen=True, slots=True)
class CheckpointSequence:
    """Checkpoints of one model, by step.

    Attributes:
        model: Value of `model` that all checkpoints share.
        checkpoints: At least one checkpoint, in strictly rising order of step.
        notes: What a user should know about how the spec was read, one sentence each.
    """

    model: str
    checkpoints: tuple[Checkpoint, ...]
    notes: tuple[str, ...] = ()

    @property
    def first_loadable(self) -> Checkpoint:
        """The first checkpoint without `problems`; every sequence has one."""
        return next(each for each in self.checkpoints if not each.problems)

    @property
    def tokenizer_folder(self) -> Path | None:
        """The folder of the tokenizer for all checkpoints; None if there is no tokenizer."""
        return self.first_loadable.tokenizer_folder


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `resolve`.

    Attributes:
        offline: Whether the network must not be used.
        allow_pickle: Whether pickle weights are accepted.
        trust_remote_code: Whether checkpoints that bring their own code are accepted.
        needs_tokenizer: Whether a checkpoint without a tokenizer is an error.
        tokenizer_folder: Folder of `--tokenizer`, which replaces all other tokenizers; None if not given.
    """

    offline: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False
    needs_tokenizer: bool = True
    tokenizer_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that a spec names, not inspected yet.

    Attributes:
        revision: Git revision, or the name of the folder.
        step: Step of the checkpoint; None if it has no step, and until the sequence is put in order.
        folder: Folder of the checkpoint; None for a checkpoint of the hub.
        commit: Commit of the revision; None for a folder.
        named: Number read from its name; None if the name gives neither a step nor an order.
        stage: Label of its stage; empty if the sequence has only one stage.
        offset: Last step of the earlier stages, which is included in `step`.
    """

    revision: str
    step: int | None
    folder: Path | None
    commit: str | None = None
    named: Named | None = None
    stage: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoints that one spec names.

    Attributes:
        model: Hub id or the sequence folder's name.
        spec: What the user wrote, for messages.
        root: Folder with the name `model`; None for the hub.
        candidates: Checkpoints, in the order of the spec.
        describe: Function that inspects one candidate.
        stepped: Whether steps come from names, so that sources with the same root are one sequence.
        notes: How the spec was read.
    """

    model: str
    spec: str
    root: Path | None
    candidates: tuple[Candidate, ...]
    describe: Callable[[Candidate, Options], Checkpoint]
    stepped: bool = True
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class ProblemCollector:
    """Collects the problems of many checkpoints, so that all are reported at once.

    Problems that differ only in their place become one that lists the places.
    """

    found: dict[tuple[bool, str, str], list[str]] = field(default_factory=dict)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep a CheckpointError or SafetyError for later."""
        try:
            yield
        except (CheckpointError, SafetyError) as error:
            self.add(error)

    def add(self, error: CheckpointError | SafetyError) -> None:
        """Keep the problems of `error`."""
        for problem in error.problems:
            key = (isinstance(error, SafetyError), problem.what, problem.fix)
            self.found.setdefault(key, []).append(problem.where)

    def raise_any(self) -> None:
        """Raise all kept problems as one error: a SafetyError only if nothing else is wrong.

        Raises:
            CheckpointError: Something is wrong with the input.
            SafetyError: Only permissions are missing.
        """
        problems = [
            Problem(what, listed([place for place in dict.fromkeys(places) if place]), fix)
            for (_, what, fix), places in self.found.items()
        ]
        if not problems:
            return
        if all(is_safety for is_safety, _, _ in self.found):
            raise SafetyError(problems)
        raise CheckpointError(problems)
