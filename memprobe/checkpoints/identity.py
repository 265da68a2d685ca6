"""The records: a checkpoint, a sequence of them, and the steps from a spec to both."""

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
        step: Optimizer updates done; the position from 0 in a sequence whose names have no step; None for a
            single checkpoint whose name has none.
        folder: Where the files are; None for a hub checkpoint that is not in the cache yet.
        repo: Hub id; None for a folder.
        tokenizer_folder: Folder of the tokenizer: that of `--tokenizer`, its own, or its parent's. None if
            there is none, and until `fetch` if `folder` is None.
        weights_format: How the weights are stored.
        weight_files: Names within `folder`, sorted.
        n_bytes: Total size of the weight files, including those of `base`.
        n_parameters: Numbers in the weight files; None for pickle, a corrupt header, or not fetched.
        dtype: The dtype of most numbers, such as `bfloat16`; None in the same cases.
        commit: The commit of the revision, 40 hex digits; None for a folder.
        base: The model that a LoRA adapter changes; None for other formats.
        config_folder: Where config.json is while `folder` is None: the snapshot that the weights go to.
        weight_sha256: SHA-256 of each weight file as the hub lists it; None where the files are here.
        problems: Why it cannot be loaded, where so little of it can be read that nothing above is known but
            where it is and its place in the sequence; a run records it as failed.
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
        """The checkpoint whose config and architecture it has: a LoRA adapter's base, else itself."""
        return self.base or self

    def check_loadable(self) -> None:
        """Refuse a checkpoint that cannot be read at all.

        Raises:
            UnloadableError: It has `problems`.
        """
        if self.problems:
            raise UnloadableError(self.problems)

    @property
    def small_files(self) -> Path:
        """The folder of config and the like, which is on this machine even where the weights are not.

        Raises:
            ValueError: There is none.
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
        """The first checkpoint of which anything can be read; there is one."""
        return next(each for each in self.checkpoints if not each.problems)

    @property
    def tokenizer_folder(self) -> Path | None:
        """The folder of the tokenizer that serves all checkpoints; None where there is none."""
        return self.first_loadable.tokenizer_folder


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `resolve`.

    Attributes:
        offline: The network may not be used.
        allow_pickle: Pickle weights are accepted.
        trust_remote_code: Checkpoints that bring their own code are accepted.
        needs_tokenizer: A checkpoint without a tokenizer is an error.
        tokenizer_folder: The folder of `--tokenizer`, which wins over all others.
    """

    offline: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False
    needs_tokenizer: bool = True
    tokenizer_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that a spec names, not looked into yet.

    Attributes:
        revision: Git revision, or the name of the folder.
        step: Its step; None where it has none, and until the sequence is put in order.
        folder: Where it is; None where the hub has to be asked.
        commit: Commit of the revision; None for a folder.
        named: What its name says of it; None: neither a step nor an order.
        stage: Label of its stage; empty where the sequence has one stage.
        offset: The last step of the stages before, which is part of `step`.
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
        root: The folder that `model` is the name of; None for the hub.
        candidates: In the order of the spec.
        describe: Looks into one candidate.
        stepped: The steps come from names, so sources with the same root are one sequence.
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
    """Collects what is wrong with many checkpoints, so that all of it is reported at once.

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
        """Raise all that was kept; a SafetyError only where nothing else is wrong.

        Raises:
            CheckpointError: Something is wrong with the input.
            SafetyError: Only permissions are lacking.
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
