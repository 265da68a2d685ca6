"""What a run's manifest says, typed: the one place that knows the keys of `manifest.json`.

A manifest is written in steps: what is asked comes first, what was measured last. So every entry that comes
later, or that runs of an earlier version lack, has a default here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self


class _Entry:
    """Reads a frozen dataclass from an object of JSON; keys that it does not name are left out."""

    __slots__ = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the entry; a key that is not there has its default.

        Raises:
            TypeError: A key without a default is missing.
        """
        names = {each.name for each in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return cls(**{name: value for name, value in found.items() if name in names})


@dataclass(frozen=True, slots=True)
class SuiteEntry(_Entry):
    """The suite: its name, one line, and the paper."""

    name: str = ""
    title: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class StageEntry(_Entry):
    """One probe with its settings, as a stage of the run asks it."""

    probe: str
    version: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckpointEntry(_Entry):
    """One checkpoint.

    Attributes:
        model: Hub id, or name of the sequence's folder.
        revision: Git revision, or name of the checkpoint's folder.
        step: Its training step; None: it has none.
        commit: On the hub; None: a folder.
        weights_digest: SHA-256 of its weights.
        tokenizer_digest: SHA-256 of its tokenizer; None: it has none.
        context: Key of its scores.
        n_bytes: Of its weights.
        n_parameters: None: not known.
    """

    model: str
    revision: str
    step: int | None = None
    commit: str | None = None
    weights_digest: str | None = None
    tokenizer_digest: str | None = None
    context: str = ""
    n_bytes: int | None = None
    n_parameters: int | None = None

    @property
    def name(self) -> tuple[str, str]:
        """Model and revision, which no two checkpoints of a run share."""
        return self.model, self.revision


@dataclass(frozen=True, slots=True)
class SequenceEntry(_Entry):
    """One sequence of checkpoints.

    Attributes:
        model: Its name.
        n_front: Tokens in front of an item.
        context_tokens: Longest input of the model; None: no limit is known.
        n_units: Units of work of each checkpoint; None: not yet known.
    """

    model: str
    n_front: int = 0
    context_tokens: int | None = None
    n_units: int | None = None


@dataclass(frozen=True, slots=True)
class ItemsEntry(_Entry):
    """The items: their number, those left out, and the columns that their files gave."""

    n_items: int = 0
    n_skipped: int = 0
    n_unfit: int = 0
    n_copies: int = 0
    given: Sequence[str] = ()
    digest: str = ""
    files: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class ControlEntry(_Entry):
    """The control model: one checkpoint that did not train on the items."""

    model: str
    revision: str
    label: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """Model and revision."""
        return self.model, self.revision


@dataclass(frozen=True, slots=True)
class FailureEntry(_Entry):
    """A checkpoint that could not be scored, and why."""

    model: str
    revision: str
    step: int | None = None
    error: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """Model and revision."""
        return self.model, self.revision


@dataclass(frozen=True, slots=True)
class MetricEntry(_Entry):
    """A metric, as `Metric` declares it."""

    name: str
    unit: str = ""
    more_means: str = ""
    summary: str = ""
    more_is_memorized: bool | None = True

    @property
    def direction(self) -> bool | None:
        """Whether more means more memorized; None: its sign says nothing."""
        return self.more_is_memorized if self.more_means else None


@dataclass(frozen=True, slots=True)
class ProbeEntry(_Entry):
    """What the manifest carries of a probe for readers of its numbers."""

    version: int = 0
    title: str = ""
    formula: str = ""
    source: str = ""
    metrics: Sequence[MetricEntry] = ()
    tables: Sequence[str] = ()
    about: Mapping[str, str] | None = None
    rankings: Sequence[Mapping[str, Any]] | None = None
    grids: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the entry, its metrics typed."""
        metrics = tuple(MetricEntry.from_json(each) for each in found.get("metrics", ()))
        names = {each.name for each in fields(cls)} - {"metrics"}
        return cls(metrics=metrics, **{name: value for name, value in found.items() if name in names})


@dataclass(frozen=True, slots=True)
class Manifest:
    """A run: what was asked, on which checkpoints and items, and how it went.

    Attributes:
        state: scoring, incomplete or done.
        stages: What was asked at once; a probe added later is a stage of its own.
        probes: By name, what a reader of their numbers needs.
        cwd: The folder that relative paths of the flags start from.
        control: None: there is none.
        failures: Checkpoints that could not be scored.
        tables: SHA-256 of each table by name.
        checks: Counts of the probes' checks by name.
        left_out: Items of a sequence that are in no estimate over time, by reason.
    """

    state: Literal["scoring", "incomplete", "done"] = "scoring"
    memprobe: str = ""
    suite: SuiteEntry = field(default_factory=SuiteEntry)
    stages: tuple[tuple[StageEntry, ...], ...] = ()
    probes: Mapping[str, ProbeEntry] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    cwd: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    bos: str = ""
    seed: int = 0
    include_text: bool = False
    items: ItemsEntry | None = None
    checkpoints: tuple[CheckpointEntry, ...] = ()
    control: ControlEntry | None = None
    sequences: tuple[SequenceEntry, ...] = ()
    notes: Sequence[str] = ()
    load_notes: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    left_out: Sequence[Mapping[str, Any]] = ()
    failures: tuple[FailureEntry, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    checks: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the manifest that `RunStore.read_manifest` read and checked."""
        control, items = found.get("control"), found.get("items")
        nested: dict[str, Any] = {
            "suite": SuiteEntry.from_json(found.get("suite") or {}),
            "stages": tuple(
                tuple(StageEntry.from_json(each) for each in stage) for stage in found.get("stages", ())
            ),
            "probes": {name: ProbeEntry.from_json(each) for name, each in found.get("probes", {}).items()},
            "items": None if items is None else ItemsEntry.from_json(items),
            "checkpoints": tuple(CheckpointEntry.from_json(each) for each in found.get("checkpoints", ())),
            "control": None if not control else ControlEntry.from_json(control),
            "sequences": tuple(SequenceEntry.from_json(each) for each in found.get("sequences", ())),
            "failures": tuple(FailureEntry.from_json(each) for each in found.get("failures", ())),
        }
        plain = {each.name for each in fields(cls)} - nested.keys()
        return cls(**nested, **{name: value for name, value in found.items() if name in plain})

    @property
    def asked(self) -> tuple[StageEntry, ...]:
        """The probes of all stages, in order."""
        return tuple(each for stage in self.stages for each in stage)

    def scoring_signature(self, tokenizer: str | None) -> str:
        """Return how the run scored, as part of signatures: BOS mode, dtype, and a tokenizer's digest."""
        return f"bos:{self.bos}|{self.dtype}|tok:{(tokenizer or 'none')[:12]}"

    @property
    def given(self) -> frozenset[str]:
        """Columns that an item file gave, even if only nulls."""
        return frozenset(self.items.given if self.items else ())
