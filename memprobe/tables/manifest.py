"""The manifest of a run, typed: the one module that knows the keys of `manifest.json`.

A manifest is written in steps: first the question, last the results. A run that is still being scored, or
that an earlier version wrote, lacks keys; their defaults are here. Keys without a field are kept, so that
reading and writing a manifest loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, Self, get_args, get_origin

from memprobe.errors import InvalidRunError

FORMAT = 1
WRITTEN_AGAIN = "move it away: the same `memprobe run` writes it again and keeps the units"
# Keys that the measured numbers depend on: a default would be a guess.
_DECIDING = ("stages", "sequences", "bos", "dtype", "seed")


class _WrongKindError(Exception):
    """The value of a key has another type than memprobe writes there; the message is the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An object of the manifest.

    Attributes:
        keys: Keys of the object in the order of the file; None: all fields, then the rest.
        rest: Keys without a field, with their values.
    """

    keys: tuple[str, ...] | None = field(default=None, compare=False, repr=False)
    rest: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the entry; a missing key gets its default.

        Raises:
            _WrongKindError: A value has another type; `Manifest.from_json` reports it to the user.
        """
        return cls(**_values(cls, found))

    def to_json(self) -> dict[str, Any]:
        """Return the object in the form that the file holds."""
        names = (*_kinds(type(self)), *self.rest) if self.keys is None else self.keys
        return {name: _plain(self.rest[name] if name in self.rest else getattr(self, name)) for name in names}

    def changed(self, **values: Any) -> Self:  # noqa: ANN401
        """Return the entry with changed values; new keys come last."""
        keys = None if self.keys is None else tuple(dict.fromkeys((*self.keys, *values)))
        return replace(self, keys=keys, **values)


def _kinds(cls: type[_Entry]) -> dict[str, Any]:
    """Return the type of each key that has a field."""
    return {each.name: each.type for each in fields(cls) if each.name not in ("keys", "rest")}


def _values(cls: type[_Entry], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an entry's fields from an object of JSON.

    Raises:
        _WrongKindError: The value of a key has another type than the field.
    """
    kinds = _kinds(cls)
    values: dict[str, Any] = {
        "keys": tuple(found),
        "rest": {name: value for name, value in found.items() if name not in kinds},
    }
    for name in found:
        if name in kinds:
            try:
                values[name] = _read(found[name], kinds[name])
            except (TypeError, ValueError, _WrongKindError) as error:
                raise _WrongKindError(name) from error
    return values


def _read(value: Any, kind: Any) -> Any:  # noqa: ANN401
    """Return a value of JSON converted to the type `kind`.

    Raises:
        TypeError: The value has another type, or an object lacks a key that has no default.
        ValueError: A list has another length than the tuple.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _read(value, next(each for each in inner if each is not NoneType))
    if origin is tuple and isinstance(value, list | tuple):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_read(*pair) for pair in zip(value, kinds, strict=True))
    if origin is Mapping and isinstance(value, Mapping):
        return {name: _read(each, inner[1]) for name, each in value.items()}
    if isinstance(kind, type) and issubclass(kind, _Entry) and isinstance(value, Mapping):
        return kind.from_json(value)
    if kind is Any or (origin is Literal and value in inner) or _is_plain(value, kind):
        return value
    raise TypeError(kind)


def _is_plain(value: object, kind: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    # In Python, a bool is an int, so the type must be exactly the same.
    return kind in (str, int, bool) and type(value) is kind


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value as JSON holds it, in new lists and dictionaries."""
    if isinstance(value, _Entry):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteEntry(_Entry):
    """The suite: its name, a title of one line, and the paper that it follows."""

    name: str = ""
    title: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEntry(_Entry):
    """One probe with its settings, in one stage of the run.

    Attributes:
        statistics: Names of the statistics that the stage's tokens are scored with even if no probe asks for
            them; runs of an earlier version have none.
    """

    probe: str
    version: int
    settings: Mapping[str, Any]
    statistics: tuple[str, ...] = ()


Stage = tuple[StageEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry(_Entry):
    """A metric, as `Metric` declares it; runs of an earlier version lack `more_is_memorized`."""

    name: str
    unit: str
    more_means: str
    summary: str
    more_is_memorized: bool | None = True

    @property
    def direction(self) -> bool | None:
        """Whether a higher value means more memorized; None if the metric has no direction."""
        return self.more_is_memorized if self.more_means else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutEntry(_Entry):
    """The texts of a probe, as `About` declares them."""

    measures: str = ""
    how_to_read: str = ""
    limits: str = ""
    citation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingEntry(_Entry):
    """A ranking of the most memorized items of a table, as `Ranking` declares it."""

    table: str
    by: str
    shown: tuple[str, ...]
    title: str = "Most memorized items"


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEntry(_Entry):
    """Estimates by several columns, as `Grid` declares them."""

    table: str
    title: str
    rows: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    value: str
    n: str
    pooled: tuple[str, ...] = ()
    beside: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEntry(_Entry):
    """The information on a probe that readers of its numbers need.

    Attributes:
        about: Texts of the probe; None in a run of an earlier version.
        rankings: Rankings of the probe; None if the probe does not declare any.
    """

    version: int
    title: str = ""
    formula: str = ""
    source: str = ""
    metrics: tuple[MetricEntry, ...] = ()
    tables: tuple[str, ...] = ()
    about: AboutEntry | None = None
    rankings: tuple[RankingEntry, ...] | None = None
    grids: tuple[GridEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry(_Entry):
    """A file of items.

    Attributes:
        spec: The file as the user named it.
        sha256: SHA-256 of the file's bytes, or of the rows that were read.
        n_items: Number of items taken from the file.
        read_as: Published format that its columns were recognised as; None: they mean what their names say.
    """

    spec: str
    sha256: str
    n_items: int
    read_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsEntry(_Entry):
    """The items: their files, counts of items used and left out, and the columns that the files gave."""

    files: tuple[FileEntry, ...] = ()
    n_items: int = 0
    n_skipped: int = 0
    n_unfit: int = 0
    n_copies: int = 0
    given: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named(_Entry):
    """An entry about one checkpoint."""

    model: str
    revision: str

    @property
    def name(self) -> tuple[str, str]:
        """Model and revision, which identify a checkpoint of the run."""
        return self.model, self.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEntry(_Named):
    """One checkpoint.

    Attributes:
        model: Hub id, or name of the sequence's folder.
        revision: Git revision, or name of the checkpoint's folder.
        step: Training step; None if the checkpoint has none.
        folder: Folder of the configuration.
        commit: Commit on the hub; None for a local folder.
        weights_digest: SHA-256 of the weights.
        tokenizer_digest: SHA-256 of the tokenizer; None if there is none.
        context: Key of the scores.
        format: Format of the weights.
        n_bytes: Size of the weights in bytes.
        n_parameters: Number of parameters; None if it is not known.
        base: Model that the adapter belongs to; None if the checkpoint is not an adapter.
    """

    step: int | None
    folder: str = ""
    commit: str | None = None
    weights_digest: str = ""
    tokenizer_digest: str | None
    context: str
    format: str = ""
    n_bytes: int = 0
    n_parameters: int | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEntry(_Named):
    """The control: one checkpoint that did not train on the items."""

    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureEntry(_Named):
    """A checkpoint that could not be scored, with the error."""

    step: int | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceEntry(_Entry):
    """One sequence of checkpoints.

    Attributes:
        model: Name of the sequence.
        n_front: Number of tokens in front of an item.
        context_tokens: Longest input of the model in tokens; None if no limit is known.
        vocabulary: Number of tokens that the model scores; None if it is not known.
        n_units: Number of units of work of each checkpoint; None if it is not known yet.
    """

    model: str
    n_front: int
    context_tokens: int | None
    vocabulary: int | None = None
    n_units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadNoteEntry(_Entry):
    """A note from loading, and the checkpoints, as model and revision, that it is about."""

    text: str
    checkpoints: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutEntry(_Entry):
    """A count of the items of a sequence that are in no estimate of a probe.

    Attributes:
        entry: The settings that distinguish the entry from others of its probe; None: it is the only entry.
    """

    model: str
    probe: str
    entry: str | None
    reason: str
    n_items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(_Entry):
    """A run: the question, the checkpoints and items, and how the run went.

    Attributes:
        memprobe: Version of memprobe that wrote the manifest.
        stages: The probe entries, those asked for together in one stage; a probe added later is a new stage.
        probes: For each probe by name, the information that readers of its numbers need.
        cwd: The folder that relative paths of the flags start from.
        control: The control; None if there is none.
        notes: Notes on the question.
        tables: SHA-256 of each table by name.
        timings: Seconds of all processes, by kind of work.
        batch_tokens_at_end: Tokens of a batch at the end of scoring.
        paths: Methods of scoring that were used.
        checks: Counts of the probes' checks by name.
    """

    keys: tuple[str, ...] = field(default=(), compare=False, repr=False)
    format: int = FORMAT
    memprobe: str = ""
    state: Literal["scoring", "incomplete", "done"] = "scoring"
    suite: SuiteEntry = field(default_factory=SuiteEntry)
    stages: tuple[Stage, ...] = ()
    probes: Mapping[str, ProbeEntry] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    cwd: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    bos: str = ""
    seed: int = 0
    include_text: bool = False
    batch_tokens: int | None = None
    items: ItemsEntry | None = None
    checkpoints: tuple[CheckpointEntry, ...] = ()
    control: ControlEntry | None = None
    sequences: tuple[SequenceEntry, ...] = ()
    notes: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[FailureEntry, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    batch_tokens_at_end: int | None = None
    paths: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    load_notes: tuple[LoadNoteEntry, ...] = ()
    checks: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOutEntry, ...] = ()

    @classmethod
    def from_json(cls, found: object, where: str = "") -> Self:
        """Return the manifest that a document of JSON holds.

        Args:
            found: The document.
            where: File of the document, for messages.

        Raises:
            InvalidRunError: The manifest has another format, or holds something that memprobe does not write.
        """
        manifest = found if isinstance(found, Mapping) else {}
        if manifest.get("format") != FORMAT:
            given = manifest.get("format", "none")
            writer = f", written by memprobe {manifest['memprobe']}" if manifest.get("memprobe") else ""
            raise InvalidRunError(
                f"the manifest has format {given}{writer}; this memprobe reads {FORMAT}",
                where=where,
                fix="use the version of memprobe that wrote it; `memprobe run --fresh` starts over",
            )
        try:
            made = cls(**_values(cls, manifest))
        except _WrongKindError as error:
            what = f"the manifest cannot be used: `{error}` is not what memprobe writes there"
            raise InvalidRunError(what, where=where, fix=WRITTEN_AGAIN) from error
        if made.checkpoints and (missing := [name for name in _DECIDING if manifest.get(name) is None]):
            what = f"the manifest cannot be used: it does not say `{missing[0]}` of its checkpoints"
            raise InvalidRunError(what, where=where, fix=WRITTEN_AGAIN)
        return made

    @property
    def asked(self) -> Stage:
        """The probes of all stages, in order."""
        return tuple(each for stage in self.stages for each in stage)

    @property
    def measured(self) -> ItemsEntry:
        """The items.

        Raises:
            InvalidRunError: The manifest does not describe the items.
        """
        if self.items is None:
            raise InvalidRunError("the manifest does not say what items were measured", fix=WRITTEN_AGAIN)
        return self.items

    @property
    def given(self) -> frozenset[str]:
        """Columns that an item file gave, even if only nulls.

        Raises:
            InvalidRunError: The manifest does not describe the items.
        """
        return frozenset(self.measured.given)

    def scoring_signature(self, tokenizer: str | None) -> str:
        """Return the part of signatures on scoring: BOS mode, dtype, and the digest of a tokenizer."""
        return f"bos:{self.bos}|{self.dtype}|tok:{(tokenizer or 'none')[:12]}"
