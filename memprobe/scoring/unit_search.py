"""One unit that searches: a request in, a row of `SPANS` with what the shortest prompt is out."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from memprobe.errors import CheckpointError
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.tokenise import Ids, TokenisedItems
from memprobe.tables.requests import Search, Unit
from memprobe.tables.sealed import seal, unseal
from memprobe.tables.spans import SPANS

if TYPE_CHECKING:
    from memprobe.scoring.search import Found, SearchProgress


@dataclass(frozen=True, slots=True)
class Warm:
    """The results of the same unit at the checkpoint before.

    Attributes:
        sealed: Its prompt.
        name: What the seal was made under.
        step: Of that checkpoint.
    """

    sealed: bytes
    name: str
    step: int | None


@dataclass(frozen=True, slots=True)
class _Strings:
    """The token ids around what is searched for: head, the free ones, tail, target."""

    head: Ids
    tail: Ids
    target: Ids

    @classmethod
    def of(cls, request: dict[str, Any], tokenised: TokenisedItems) -> "_Strings":
        item, part = request["item_id"], request["part"]
        ids = tokenised.ids[item, part]
        front = np.asarray(tokenised.front_for(item, part), dtype=np.int64)
        return cls(
            head=np.concatenate([front, ids[: request["start"]]]),
            tail=ids[request["start"] : request["score_from"]],
            target=ids[request["score_from"] : request["stop"]],
        )


def search_unit(
    loaded: LoadedModel,
    tokenised: TokenisedItems,
    unit: Unit,
    *,
    name: str,
    warm: Warm | None = None,
    include_text: bool = False,
    on_step: Callable[["SearchProgress"], None] = lambda _: None,
) -> pl.DataFrame:
    """Search the prompt that the unit's one request asks for.

    Args:
        loaded: The model.
        tokenised: The items with their ids.
        unit: One search request.
        name: Names context and unit; the prompt is sealed under it.
        warm: What the checkpoint before found.
        include_text: Write the prompt's ids.
        on_step: Receives the progress of the search.

    Returns:
        One row of `SPANS`.

    Raises:
        CheckpointError: The model has no input embeddings, or gives NaN.
        ValueError: The unit holds no search.
    """
    from memprobe.scoring.search import allowed_ids, search_prompt

    if unit.search is None:
        raise ValueError("the unit has no search")
    request = unit.requests.row(0, named=True)
    strings = _Strings.of(request, tokenised)
    search = _that_fits(unit.search, strings, loaded.context_tokens)
    before = None if warm is None else unseal(warm.sealed, strings.target, warm.name)
    found = search_prompt(
        loaded,
        strings.target,
        search,
        head=strings.head,
        tail=strings.tail,
        allowed=allowed_ids(tokenised.tokenizer, loaded.vocabulary),
        warm=before,
        survives=_survival(tokenised.tokenizer),
        on_step=on_step,
    )
    told = _told(found, strings.target, name, include_text=include_text)
    told |= {"warm_from_step": None if warm is None else warm.step}
    told |= _compressed(tokenised, strings.target)
    types = {name: column.dtype for name, column in SPANS.columns.items() if name != "content_hash"}
    row = {name: ({**request, "found": told}).get(name) for name in types}
    hashes = tokenised.table.select("item_id", "content_hash")
    return pl.DataFrame([row], schema=types).join(hashes, on="item_id", maintain_order="left")


def _that_fits(search: Search, strings: _Strings, context_tokens: int | None) -> Search:
    """Return the search with the longest prompt that it may try: as asked, and as the context holds.

    Raises:
        CheckpointError: Not even one token fits, which planning should have seen.
    """
    longest = search.longest(len(strings.target))
    if context_tokens is not None:
        # The last token is predicted, never read.
        around = len(strings.head) + len(strings.tail) + len(strings.target) - 1
        longest = min(longest, context_tokens - around)
        if longest < 1:
            raise CheckpointError(
                f"no room for a prompt: {around} tokens around it, the context holds {context_tokens}"
            )
    return replace(search, max_prompt_tokens=longest)


def _survival(tokenizer: Any) -> Callable[[Ids], bool] | None:  # noqa: ANN401
    """Return whether ids come back when they are decoded and encoded; None where nothing decodes."""
    if tokenizer is None:
        return None

    def survives(ids: Ids) -> bool:
        text = tokenizer.decode(ids.tolist())
        again = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return bool(again == ids.tolist())

    return survives


def _told(found: "Found", target: Ids, name: str, *, include_text: bool) -> dict[str, Any]:
    """Return what is written of a search; a prompt that real decoding did not confirm is none."""
    prompt = found.prompt if found.verified else None
    return {
        "prompt_tokens": None if prompt is None else len(prompt),
        "verified": found.verified,
        "censored_at_tokens": None if prompt is not None else found.censored_at_tokens,
        "evaluations_used": found.evaluations_used,
        "evaluations_to_best": found.evaluations_to_best,
        "final_ce_nats": found.final_ce_nats,
        "prompt_tokens_by_seed": list(found.prompt_tokens_by_seed),
        "n_refuted": found.n_refuted,
        "prompt_roundtrip": found.prompt_roundtrip,
        "prompt_sealed": None if prompt is None else seal(prompt, target, name),
        "prompt_ids": prompt.tolist() if include_text and prompt is not None else None,
    }


def _compressed(tokenised: TokenisedItems, target: Ids) -> dict[str, Any]:
    """Return bytes of the target's text, and how many times fewer a compressor needs; null without a text.

    The whole file that gzip writes (RFC 1952) and the whole zlib stream (RFC 1950), at level 9, without a
    name or time in the header: what a user would measure. Short texts come out below 1.
    """
    if tokenised.decode is None:
        return {}
    text = tokenised.decode(target.tolist()).encode("utf-8")
    return {
        "target_bytes": len(text),
        "gzip_ratio": len(text) / len(gzip.compress(text, compresslevel=9, mtime=0)),
        "zlib_ratio": len(text) / len(zlib.compress(text, level=9)),
    }
