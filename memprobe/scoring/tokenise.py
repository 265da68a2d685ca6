"""Items to token ids: the whole string once, split on ids, with BOS set explicitly.

A token that crosses the border of prefix and suffix belongs to the suffix; `boundary_shift` says
that prefix and suffix tokenised apart give other ids than together.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.errors import CheckpointError, InputError, ItemError, OutsideVocabularyError, Problem
from memprobe.scoring.literals import Literals, literals_in
from memprobe.scoring.load import Limits
from memprobe.scoring.split import tokens_before, unjoined
from memprobe.tables.views import CHAT_PART
from memprobe.wording import counted

BosMode = Literal["default", "none", "forced"]
Ids = NDArray[np.int64]

_AT_ONCE, _CHARS_AT_ONCE = 4096, 4_000_000


@dataclass(frozen=True, slots=True)
class TokenisedItems:
    """Items with their token ids, which only scoring sees.

    Attributes:
        table: The item table joined by `n_tokens, n_prefix_tokens, n_foil_tokens` (Int32) and
            `boundary_shift` (Boolean, null where there is no border).
        ids: Token ids of each (item_id, part), BOS not included; part is `text`, `foil`,
            or what a view cut (`slice@0+800`, `chat...`, `random...`, `shuffled...`, `trial-...`).
        front: Ids in front of every text, which condition and are never scored or counted.
        front_of_ids: Ids in front of items given as `input_ids`.
        given_as_ids: The items given as `input_ids`.
        decode: Ids to text, None where there is no tokenizer.
        tokenizer: What `ids` were made with; None where there is none.
        choices: Of the parts that end where a label is to come, the ids that spell each of its two labels.
        literals: Items that hold special tokens before anything is put in front.
        notes: What the user should know of these items under this tokenizer, one sentence each.
    """

    table: pl.DataFrame
    ids: dict[tuple[str, str], Ids]
    front: tuple[int, ...]
    front_of_ids: tuple[int, ...]
    given_as_ids: frozenset[str]
    decode: Callable[[list[int]], str] | None = None
    tokenizer: Any = None
    choices: Mapping[str, tuple[Ids, Ids]] = field(default_factory=dict)
    literals: Literals = field(default_factory=Literals)
    notes: tuple[str, ...] = ()

    def front_for(self, item_id: str, part: str) -> tuple[int, ...]:
        """Return the ids in front of a string of an item; a chat template has put its own."""
        if part.startswith(CHAT_PART):
            return ()
        return self.front_of_ids if item_id in self.given_as_ids else self.front

    def contents(self) -> pl.Series:
        """Return a digest of each item's ids, in the order of the table; equal ids have equal ones.

        Ids in front of a text are left out, also where an item of `input_ids` spells them itself.
        """
        front = np.asarray(self.front, dtype=np.int64)
        digests = []
        for item in self.table["item_id"]:
            ids = self.ids[item, "text"]
            if len(front) and item in self.given_as_ids and np.array_equal(ids[: len(front)], front):
                ids = ids[len(front) :]
            digests.append(hashlib.blake2b(ids.tobytes(), digest_size=16).hexdigest())
        return pl.Series("contents", digests, dtype=pl.String)

    @property
    def n_front(self) -> int:
        """Tokens in front of an item, at most."""
        return max(len(self.front), len(self.front_of_ids))


def front_ids(tokenizer: Any, bos: BosMode, *, bos_id: int | None) -> tuple[int, ...]:  # noqa: ANN401
    """Return the ids that are in front of a text.

    Raises:
        InputError: `forced`, and neither tokenizer nor configuration has a BOS id.
    """
    if bos == "none":
        return ()
    if bos == "forced":
        forced = getattr(tokenizer, "bos_token_id", None)
        forced = forced if forced is not None else bos_id
        if forced is None:
            raise InputError(
                "there is no BOS id to force", where="--bos forced", fix="use --bos default or none"
            )
        return (int(forced),)
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    special = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(special) - len(plain) + 1):
        if special[start : start + len(plain)] == plain:
            return tuple(int(token) for token in special[:start])
    raise CheckpointError(
        "the tokenizer changes the text's ids when it adds its special tokens", fix="use --bos none"
    )


def tokenise(items: pl.DataFrame, tokenizer: Any, *, bos: BosMode, limits: Limits) -> TokenisedItems:  # noqa: ANN401
    """Tokenise every item once.

    Args:
        items: A checked item table.
        tokenizer: A transformers tokenizer; None is allowed if all items are `input_ids`.
        bos: Which tokens are put in front; `input_ids` stay as given under `default` and `none`.
        limits: Of the model, for the vocabulary and its BOS id.

    Raises:
        ItemError: Ids outside the vocabulary, or a border that the tokenizer cannot locate.
        InputError: BOS is forced and there is none, or it is outside the vocabulary.
    """
    needs_text = items["input_ids"].null_count() > 0
    front = front_ids(tokenizer, bos, bos_id=limits.bos_id) if needs_text or bos == "forced" else ()
    if max(front, default=0) >= limits.vocabulary:
        raise InputError(
            f"the id {max(front)} in front of a text is outside the vocabulary of {limits.vocabulary}",
            where=f"--bos {bos}",
            fix="use the model's own tokenizer, or --bos none",
        )
    _refuse_unlocatable_border(items, tokenizer)
    texts = items.select(
        "item_id",
        "foil",
        "input_ids",
        border=pl.col("prefix").str.len_chars(),
        whole=pl.coalesce("text", pl.concat_str("prefix", "suffix")),
        prefix="prefix",
        suffix="suffix",
    )
    ids, lengths = _encode_items(texts, tokenizer)
    refuse_outside_vocabulary(items, ids, limits.vocabulary)
    shifted = _shifted_borders(tokenizer, texts, ids)
    table = items.join(lengths, on="item_id", maintain_order="left")
    as_ids = frozenset(items.filter(pl.col("input_ids").is_not_null())["item_id"])
    front_of_ids = front if bos == "forced" else ()
    literals = literals_in(ids, tokenizer, as_ids=as_ids, front=front, front_of_ids=front_of_ids)
    return TokenisedItems(
        table=table.join(shifted, on="item_id", how="left", maintain_order="left"),
        ids=ids,
        front=front,
        front_of_ids=front_of_ids,
        decode=None if tokenizer is None else tokenizer.decode,
        tokenizer=tokenizer,
        given_as_ids=as_ids,
        literals=literals,
        notes=literals.notes,
    )


def texts_of(items: pl.DataFrame) -> list[str]:
    """Return the texts and foils of items, each once; those given as `input_ids` have none."""
    whole = pl.coalesce("text", pl.concat_str("prefix", "suffix"))
    columns = items.select(whole=whole, foil="foil")
    return (
        pl.concat([columns["whole"].alias("text"), columns["foil"].alias("text")])
        .drop_nulls()
        .unique(maintain_order=True)
        .to_list()
    )


def _encode_items(texts: pl.DataFrame, tokenizer: Any) -> tuple[dict[tuple[str, str], Ids], pl.DataFrame]:  # noqa: ANN401
    """Return the ids of each (item, part), and `item_id` with its lengths."""
    ids: dict[tuple[str, str], Ids] = {}
    lengths = []
    has_border = pl.col("border").is_not_null()
    bordered = texts.select(pl.when(has_border).then("whole")).to_series()
    others = texts.select(pl.when(~has_border).then("whole")).to_series()
    encoded = _encode(tokenizer, others, offsets=False, as_split=True)
    cut = _encode(tokenizer, bordered, offsets=True, as_split=True)
    foils = _encode(tokenizer, texts["foil"], offsets=False)
    rows = texts.select("item_id", "input_ids", "border", "whole").iter_rows(named=True)
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    normalizer = tokenizer.backend_tokenizer.normalizer if is_fast else None
    for row, plain, split, foil in zip(rows, encoded, cut, foils, strict=True):
        item, whole = row["item_id"], plain or split
        ids[item, "text"] = np.asarray(row["input_ids"], dtype=np.int64) if whole is None else whole.ids
        if foil is not None:
            ids[item, "foil"] = foil.ids
        n_prefix = None if whole is None or row["border"] is None else _before(normalizer, row, whole)
        lengths.append((item, len(ids[item, "text"]), n_prefix, None if foil is None else len(foil.ids)))
    names = ("n_tokens", "n_prefix_tokens", "n_foil_tokens")
    schema = {"item_id": pl.String(), **dict.fromkeys(names, pl.Int32())}
    return ids, pl.DataFrame(lengths, schema=schema, orient="row")


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: Ids
    ends: list[int] | None


def _before(normalizer: Any, row: Mapping[str, Any], encoded: _Encoded) -> int:  # noqa: ANN401
    """Count the tokens of an item that belong to its prefix.

    Raises:
        ValueError: The ends of the tokens are unknown.
    """
    if encoded.ends is None:
        raise ValueError("the tokenizer gave no offsets")
    return tokens_before(encoded.ends, unjoined(normalizer, row["whole"], row["border"]))


def _encode(
    tokenizer: Any,  # noqa: ANN401
    texts: pl.Series,
    *,
    offsets: bool,
    as_split: bool = False,
) -> list[_Encoded | None]:
    """Encode the texts that are there, without special tokens.

    Equal ones, such as the excerpt of several trials, are encoded once and share their ids.

    Args:
        tokenizer: A transformers tokenizer.
        texts: The texts; null: none.
        offsets: Also the end of each token in characters, where the tokenizer says it.
        as_split: Encode as where offsets are asked for.
    """
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    once = texts.rename("text").drop_nulls().unique(maintain_order=True).to_frame().with_row_index("place")
    out: list[_Encoded | None] = []
    for part in _batches(once["text"]):
        with untrimmed(tokenizer, wanted=is_fast and (offsets or as_split)):
            encoded = tokenizer(
                part,
                add_special_tokens=False,
                return_attention_mask=False,
                return_offsets_mapping=offsets and is_fast,
                verbose=False,
            )
        for place, ids in enumerate(encoded["input_ids"]):
            ends = [end for _, end in encoded["offset_mapping"][place]] if offsets and is_fast else None
            out.append(_Encoded(np.asarray(ids, dtype=np.int64), ends))
    places = texts.rename("text").to_frame().join(once, on="text", how="left", maintain_order="left")["place"]
    return [None if place is None else out[place] for place in places]


def _batches(texts: pl.Series) -> Iterator[list[str]]:
    """Yield texts that are encoded together; few long ones, whose tokens are Python objects at first."""
    part: list[str] = []
    n_chars = 0
    for text in texts:
        if part and (len(part) == _AT_ONCE or n_chars + len(text) > _CHARS_AT_ONCE):
            yield part
            part, n_chars = [], 0
        part.append(text)
        n_chars += len(text)
    if part:
        yield part


@contextmanager
def untrimmed(tokenizer: Any, *, wanted: bool) -> Iterator[None]:  # noqa: ANN401
    """Set the post-processor aside: some cut spaces off the offsets, so that a token seems to end early.

    Truncation and padding that a tokenizer's file may ask for go too.

    Raises:
        CheckpointError: What is encoded meanwhile holds a text for which the tokenizer has no tokens.
    """
    core = tokenizer.backend_tokenizer if wanted else None
    aside = core and core.post_processor
    if core is not None:
        core.post_processor = None
        core.no_truncation()
        core.no_padding()
    try:
        yield
    except Exception as error:
        # tokenizers raises bare exceptions, such as for a text it has no token for; all others are others.
        if type(error) is not Exception:
            raise
        raise CheckpointError(
            f"the tokenizer cannot encode a text: {error}",
            fix="name another tokenizer with --tokenizer, or give the items as input_ids",
        ) from error
    finally:
        if core is not None:
            core.post_processor = aside


def _shifted_borders(tokenizer: Any, texts: pl.DataFrame, ids: dict[tuple[str, str], Ids]) -> pl.DataFrame:  # noqa: ANN401
    """Return `item_id, boundary_shift` of the items that have a border."""
    split = texts.filter(pl.col("border").is_not_null())
    prefixes = _encode(tokenizer, split["prefix"], offsets=False)
    suffixes = _encode(tokenizer, split["suffix"], offsets=False)
    shifts = [
        not np.array_equal(np.concatenate([each.ids for each in (prefix, suffix) if each]), ids[item, "text"])
        for item, prefix, suffix in zip(split["item_id"], prefixes, suffixes, strict=True)
    ]
    return pl.DataFrame(
        {"item_id": split["item_id"], "boundary_shift": shifts},
        schema={"item_id": pl.String, "boundary_shift": pl.Boolean},
    )


def _refuse_unlocatable_border(items: pl.DataFrame, tokenizer: Any) -> None:  # noqa: ANN401
    """Refuse a cut that the tokenizer cannot locate: the default cut would measure something else."""
    split = items.filter(pl.col("prefix").is_not_null())
    if split.is_empty() or bool(getattr(tokenizer, "is_fast", False)):
        return
    file, line = split.select("source_file", "source_line").row(0)
    raise ItemError(
        f"{counted(split.height, 'item')} with a prefix: the tokenizer gives no character offsets",
        where=f"{file}, line {line}, column prefix",
        fix="give the items as input_ids or as text, or name a fast tokenizer with --tokenizer",
    )


def refuse_outside_vocabulary(
    items: pl.DataFrame, ids: Mapping[tuple[str, str], Ids], vocabulary: int
) -> None:
    """Refuse ids that the model does not have.

    Raises:
        OutsideVocabularyError: Some are there; the message names each item with its file and line.
    """
    largest: dict[tuple[str, bool], int] = {}
    for (item, part), values in ids.items():
        if (found := int(values.max(initial=-1))) >= vocabulary:
            key = (item, part == "foil")
            largest[key] = max(found, largest.get(key, found))
    if not largest:
        return
    placed = items.select("item_id", "source_file", "source_line", pl.col("input_ids").is_not_null())
    told: list[tuple[str, str, Problem]] = []
    for item, file, line, as_ids in placed.iter_rows():
        for is_foil in (each for each in (False, True) if (item, each) in largest):
            column = "foil" if is_foil else "input_ids" if as_ids else "text"
            what = (
                f"item {item} holds the id {largest[item, is_foil]}, the model's vocabulary has {vocabulary}"
            )
            place = f"{file}, line {line}, column {column}"
            told.append((item, column, Problem(what, place, "use this model's own tokenizer")))
    raise OutsideVocabularyError(told)
