"""`hf:NAME[:CONFIG]:SPLIT` -> raw rows, through `datasets`; NAME is on the hub or a local folder."""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from memprobe.errors import ItemError, SafetyError
from memprobe.items.frame_rows import rows_from_frame
from memprobe.items.raw import RawFile

if TYPE_CHECKING:
    from datasets import Dataset

HF_PREFIX: Final = "hf:"

# A colon inside brackets belongs to a slice: train[:100].
_COLON = re.compile(r":(?![^\[]*\])")
_CARDS = ("README.md", ".huggingface.yaml")
_MAX_CHARS = 300


@dataclass(frozen=True, slots=True)
class HfSpec:
    """A data set as named by the user.

    Attributes:
        spec: The whole text, `hf:` included.
        name: Hub id or local folder.
        config: The configuration; None: the default one.
        split: The split, with its slice if any.
    """

    spec: str
    name: str
    config: str | None
    split: str

    @property
    def is_local(self) -> bool:
        """Whether the name is a folder on this machine, which takes precedence over a hub id of that name."""
        return Path(self.name).expanduser().is_dir()


def parse_hf_spec(spec: str) -> HfSpec:
    """Return the parts of `hf:NAME[:CONFIG]:SPLIT`.

    Raises:
        ItemError: There are not two or three parts, or one is empty.
    """
    parts = _COLON.split(spec.removeprefix(HF_PREFIX))
    if len(parts) not in {2, 3} or not all(parts):
        raise ItemError(
            "a data set is named hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT",
            where=spec,
            fix=f"name the split too, as in {spec}:train" if len(parts) == 1 and all(parts) else "",
        )
    return HfSpec(spec, parts[0], parts[1] if len(parts) == 3 else None, parts[-1])


def read_hf(dataset: HfSpec, limit: int | None, *, offline: bool) -> RawFile:
    """Read the first rows of a split; the digest covers the rows read.

    Raises:
        ItemError: There is no such data set, configuration or split, or it cannot be read.
        SafetyError: Under `offline`, the data set would have to be downloaded.
    """
    from huggingface_hub import constants

    offline = offline or bool(constants.HF_HUB_OFFLINE)
    with tempfile.TemporaryDirectory(prefix="memprobe-") as scratch, _quiet():
        # A local folder needs no copy of its texts in the shared cache.
        cache = scratch if dataset.is_local else None
        if offline:
            with _no_network():
                rows = _load(dataset, cache, offline=True)
        else:
            rows = _load(dataset, cache, offline=False)
        if limit is not None:
            rows = rows.select(range(min(limit, len(rows))))
        frame = pl.DataFrame(pl.from_arrow(rows.with_format("arrow")[:]))
    if frame.is_empty():
        raise ItemError("has no items", where=dataset.spec)
    return RawFile(dataset.spec, _digest(frame), "row", tuple(frame.columns), tuple(rows_from_frame(frame)))


def _load(dataset: HfSpec, cache: str | None, *, offline: bool) -> "Dataset":
    import datasets

    name = dataset.name
    if dataset.is_local:
        # Absolute, so that a folder called `json` is not taken for the reader of that name.
        name = str(Path(name).expanduser().resolve())
        if offline:
            _refuse_remote_files(dataset)
    try:
        loaded = datasets.load_dataset(name, dataset.config, split=dataset.split, cache_dir=cache)
    except ConnectionError as error:
        if offline:
            raise SafetyError(
                "the data set is not on this machine, and the network is off (--offline or HF_HUB_OFFLINE)",
                where=dataset.spec,
                fix=f"where there is a network: memprobe fetch -m MODEL -d '{dataset.spec}'",
            ) from error
        raise _lookup_error(dataset, error) from error
    except (OSError, ValueError, RuntimeError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise _lookup_error(dataset, error) from error
    return loaded


def _lookup_error(dataset: HfSpec, error: Exception) -> ItemError:
    cause = error.__cause__ or error
    said = (str(cause).strip() or type(cause).__name__).splitlines()[0][:_MAX_CHARS]
    fix = "check the name, the configuration and the split"
    if not dataset.is_local:
        fix += "; a local folder must exist, a hub data set must be reachable"
    return ItemError(f"cannot be loaded: {said}", where=dataset.spec, fix=fix)


def _refuse_remote_files(dataset: HfSpec) -> None:
    """Refuse a local folder whose card names files on the network: `datasets` would look them up."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    folder = Path(dataset.name).expanduser()
    named = ""
    if (card := folder / _CARDS[0]).is_file():
        try:
            named = json.dumps(
                MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data), default=str
            )
        except ValueError as error:
            raise _lookup_error(dataset, error) from error
    if (settings := folder / _CARDS[1]).is_file():
        named += settings.read_text(encoding="utf-8")
    if "://" in named:
        raise SafetyError(
            "the folder's card names data files on the network, and the network is off",
            where=dataset.spec,
            fix="name files of the folder in the card, or leave out --offline",
        )


def _digest(frame: pl.DataFrame) -> str:
    digest = hashlib.sha256(json.dumps(frame.columns).encode())
    for row in frame.iter_rows():
        digest.update(json.dumps(row, default=str).encode() + b"\n")
    return digest.hexdigest()


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Make `datasets` and the hub's client refuse every request; both read their flag at each request."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the progress bars of `datasets`: a library should not print."""
    import datasets

    if not datasets.is_progress_bar_enabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
