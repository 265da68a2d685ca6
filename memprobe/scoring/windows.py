"""Views of items as token ids: windows over documents, prefixes in a chat template, targets of searches.

Offsets are those that the tokenizer reports into the source text, never lengths of decoded tokens.
A character that prefix and suffix share (bytes of one character in two tokens) counts as given, and
one of which the suffix has but the first bytes as not reached.

References: Cooper et al. (2025), https://arxiv.org/abs/2505.12546; transformers' chat templates,
https://huggingface.co/docs/transformers/chat_templating
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.errors import ItemError
from memprobe.scoring.chat import chat_of, fill
from memprobe.scoring.offsets import token_offsets
from memprobe.scoring.split import tokens_before, unjoined
from memprobe.scoring.targets import targets_of
from memprobe.scoring.tokenise import Ids, TokenisedItems, refuse_outside_vocabulary, untrimmed
from memprobe.scoring.trials import trials_of
from memprobe.tables.views import CHAT_PART, WINDOWS, CharWindows, Chat, Targets, TokenWindows, Trials, View
from memprobe.wording import counted

_SLICES_AT_ONCE = 8_192


@dataclass(slots=True)
class _Cut:
    """Rows of `WINDOWS` as columns, and the ids of strings that are not the item's own."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in WINDOWS.columns})
    ids: dict[tuple[str, str], Ids] = field(default_factory=dict)
    choices: dict[str, tuple[Ids, Ids]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, n: int, **values: Any) -> None:  # noqa: ANN401
        """Add `n` rows; a value that is not a sequence is repeated."""
        for name, rows in self.columns.items():
            value = values.get(name)
            rows.extend([value] * n if value is None or isinstance(value, str | int | dict) else list(value))


def with_views(
    tokenised: TokenisedItems,
    tokenizer: Any,  # noqa: ANN401
    views: Iterable[View],
    vocabulary: int,
    *,
    context_tokens: int | None = None,
) -> tuple[TokenisedItems, pl.DataFrame]:
    """Cut every view of every item.

    Args:
        tokenised: The items, tokenised as wholes.
        tokenizer: A transformers tokenizer.
        views: What to cut; equal ones are cut once.
        vocabulary: Ids that the model has.
        context_tokens: Longest input of the model, tokens in front included; None: no limit.

    Returns:
        The items with the ids of further strings and of labels, and rows of `WINDOWS`. Items that are too
        short for one window have no rows.

    Raises:
        ItemError: The tokenizer gives no character offsets, or an id is outside the vocabulary.
        CheckpointError: A chat is asked for and the tokenizer has no chat template, or a label of a trial
            is not a single token.
    """
    cut = _Cut()
    chosen = sorted(set(views), key=lambda view: view.name)
    for view in chosen:
        if isinstance(view, Chat):
            _cut_chats(view, tokenised, tokenizer, cut)
            continue
        if isinstance(view, Targets):
            _cut_targets(view, tokenised, tokenizer, cut, vocabulary)
            continue
        _refuse_unlocatable(tokenised, tokenizer, view)
        if isinstance(view, Trials):
            _cut_trials(view, tokenised, tokenizer, cut, vocabulary, context_tokens)
        elif isinstance(view, TokenWindows):
            _cut_tokens(view, tokenised, tokenizer, cut)
        else:
            _cut_slices(view, tokenised, tokenizer, cut)
    refuse_outside_vocabulary(tokenised.table, cut.ids, vocabulary)
    schema = {name: column.dtype for name, column in WINDOWS.columns.items()}
    windows = WINDOWS.conform(pl.DataFrame(cut.columns, schema=schema))
    notes = tuple(dict.fromkeys((*tokenised.notes, *cut.notes)))
    return replace(tokenised, ids=tokenised.ids | cut.ids, choices=cut.choices, notes=notes), windows


def _cut_trials(
    view: Trials,
    tokenised: TokenisedItems,
    tokenizer: Any,  # noqa: ANN401
    cut: _Cut,
    vocabulary: int,
    context_tokens: int | None,
) -> None:
    """Add each question of each trial; one that does not fit the context has no place."""
    numbers: dict[str, int] = {}
    for each in trials_of(view, tokenised, tokenizer, vocabulary, context_tokens):
        numbers[each.item_id] = number = numbers.get(each.item_id, -1) + 1
        row = {"view": view.name, "item_id": each.item_id, "window": number, "part": each.part}
        if each.ids is not None:
            cut.ids[each.item_id, each.part] = each.ids
            row |= {"start": 0, "score_from": each.score_from, "stop": each.stop}
        if each.choices is not None:
            cut.choices[each.part] = each.choices
        asked = {
            "prompt_id": each.prompt_id,
            "condition": each.condition,
            "order": each.order,
            "dropped_tokens": each.dropped_tokens,
        }
        cut.add(1, **row, trial=asked)
    in_chat = view.chat or (view.chat is None and bool(getattr(tokenizer, "chat_template", None)))
    for prompt in view.prompts if numbers and in_chat else ():
        cut.notes += chat_of(tokenizer, system=prompt.system).notes


def _cut_targets(
    view: Targets,
    tokenised: TokenisedItems,
    tokenizer: Any,  # noqa: ANN401
    cut: _Cut,
    vocabulary: int,
) -> None:
    """Add each target of each item, and its ids where they are not those of the item itself."""
    if view.chat:
        cut.notes += chat_of(tokenizer, system=view.system).notes
    for target in targets_of(view, tokenised, tokenizer, vocabulary):
        row = {"view": view.name, "item_id": target.item_id, "window": target.window, "part": target.part}
        if target.ids is not None:
            row |= {"start": target.start, "score_from": target.score_from, "stop": target.stop}
            if target.part != "text":
                cut.ids[target.item_id, target.part] = target.ids
        cut.add(1, **row)


def _documents(tokenised: TokenisedItems) -> Iterator[tuple[str, str]]:
    """Yield the id and the text of each item that has a text."""
    text = pl.coalesce("text", pl.concat_str("prefix", "suffix"))
    yield from tokenised.table.select("item_id", text=text).drop_nulls("text").iter_rows()


def _refuse_unlocatable(tokenised: TokenisedItems, tokenizer: Any, view: View) -> None:  # noqa: ANN401
    has_text = next(_documents(tokenised), None) is not None
    if has_text and not bool(getattr(tokenizer, "is_fast", False)):
        raise ItemError(
            f"windows ({view.name}) need a tokenizer that gives character offsets, and this one does not",
            fix="name a fast tokenizer with --tokenizer",
        )


def _cut_tokens(view: TokenWindows, tokenised: TokenisedItems, tokenizer: Any, cut: _Cut) -> None:  # noqa: ANN401
    """Cut windows out of the items' own tokenisation; items given as ids have no characters."""
    n_window = view.n_tokens
    texts = dict(_documents(tokenised))
    for item in tokenised.table["item_id"]:
        n_tokens = len(tokenised.ids[item, "text"])
        starts = np.arange(0, max(0, n_tokens - n_window + 1), view.stride)
        place = {"start": starts, "score_from": starts + view.prefix_tokens, "stop": starts + n_window}
        chars: dict[str, Any] = {}
        if item in texts and len(starts):
            chars = _chars(token_offsets(tokenizer, texts[item]), place) | {
                "document_chars": len(texts[item])
            }
        numbers = np.arange(len(starts))
        cut.add(
            len(starts),
            **({"view": view.name, "item_id": item, "window": numbers, "part": "text"} | place | chars),
        )


def _chars(offsets: NDArray[np.int64], place: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Return the characters of windows from the characters of tokens."""
    ends = np.maximum.accumulate(offsets[:, 1])
    starts = offsets[:, 0]
    first, suffix, stop = place["start"], place["score_from"], place["stop"]
    given = np.where(suffix > first, ends[np.maximum(suffix - 1, 0)], 0)
    following = np.append(starts, ends[-1])[stop]
    suffix_start = np.maximum(starts[suffix], given)
    return {
        "window_start_char": starts[first],
        "suffix_start_char": suffix_start,
        "suffix_end_char": np.maximum(np.minimum(ends[stop - 1], following), suffix_start),
    }


def _cut_slices(view: CharWindows, tokenised: TokenisedItems, tokenizer: Any, cut: _Cut) -> None:  # noqa: ANN401
    """Tokenise the slice at every stride alone, and take its first tokens."""
    for item, text in _documents(tokenised):
        firsts = list(range(0, len(text), view.stride))
        numbers = 0
        for i in range(0, len(firsts), _SLICES_AT_ONCE):
            some = firsts[i : i + _SLICES_AT_ONCE]
            numbers += _add_slices(view, item, text, some, tokenizer, cut, numbers)


def _add_slices(
    view: CharWindows,
    item: str,
    text: str,
    firsts: Sequence[int],
    tokenizer: Any,  # noqa: ANN401
    cut: _Cut,
    n_before: int,
) -> int:
    """Add the windows that begin at `firsts`; slices that are too short are added without a place."""
    n_window, a = view.n_tokens, view.prefix_tokens
    slices = [text[first : first + view.slice_chars] for first in firsts]
    with untrimmed(tokenizer, wanted=True):
        encodings = tokenizer.backend_tokenizer.encode_batch(slices, add_special_tokens=False)
    # The last slices of a document reach its end, not their own: what they lack is the document's tail.
    kept = [
        (first, encoding)
        for first, encoding in zip(firsts, encodings, strict=True)
        if len(encoding) >= n_window or first + view.slice_chars <= len(text)
    ]
    made = [len(encoding) >= n_window for _, encoding in kept]
    parts = [f"slice@{first}+{view.slice_chars}" for first, _ in kept]
    chars = [
        _slice_chars(encoding, a, n_window, first) if whole else (None, None, None)
        for (first, encoding), whole in zip(kept, made, strict=True)
    ]
    for part, (_, encoding), whole in zip(parts, kept, made, strict=True):
        if whole:
            cut.ids[item, part] = np.asarray(encoding.ids[:n_window], dtype=np.int64)
    cut.add(
        len(kept),
        view=view.name,
        item_id=item,
        window=range(n_before, n_before + len(kept)),
        part=parts,
        start=[0 if whole else None for whole in made],
        score_from=[a if whole else None for whole in made],
        stop=[n_window if whole else None for whole in made],
        window_start_char=[each[0] for each in chars],
        suffix_start_char=[each[1] for each in chars],
        suffix_end_char=[each[2] for each in chars],
        document_chars=len(text),
    )
    return len(kept)


def _slice_chars(encoding: Any, a: int, n_window: int, first: int) -> tuple[int, int, int]:  # noqa: ANN401
    """Return where a slice's window and its suffix are in the document."""
    start = encoding.token_to_chars(0)[0]
    suffix_start, suffix_end = encoding.token_to_chars(a)[0], encoding.token_to_chars(n_window - 1)[1]
    if a:
        suffix_start = max(suffix_start, encoding.token_to_chars(a - 1)[1])
    if len(encoding) > n_window:
        suffix_end = min(suffix_end, encoding.token_to_chars(n_window)[0])
    return first + start, first + suffix_start, first + max(suffix_start, suffix_end)


def _cut_chats(view: Chat, tokenised: TokenisedItems, tokenizer: Any, cut: _Cut) -> None:  # noqa: ANN401
    """Put each prefix into the chat template and tokenise it together with its suffix."""
    split = tokenised.table.drop_nulls(["prefix", "suffix"]).select("item_id", "prefix", "suffix")
    if split.is_empty():
        return
    chat = chat_of(tokenizer)
    cut.notes += chat.notes
    filled = fill(chat, dict(split.select("item_id", "prefix").iter_rows()))
    if filled.n_trimmed:
        n_trimmed = counted(filled.n_trimmed, "prefix", "prefixes")
        cut.notes.append(f"the chat template cuts off white space at the ends of {n_trimmed}")
    normalizer = tokenizer.backend_tokenizer.normalizer
    for item, suffix in split.select("item_id", "suffix").iter_rows():
        asked = filled.texts[item]
        with untrimmed(tokenizer, wanted=True):
            encoding = tokenizer.backend_tokenizer.encode(asked + suffix, add_special_tokens=False)
        border = unjoined(normalizer, asked + suffix, len(asked))
        cut.ids[item, CHAT_PART] = np.asarray(encoding.ids, dtype=np.int64)
        cut.add(
            1,
            view=view.name,
            item_id=item,
            window=0,
            part=CHAT_PART,
            start=0,
            score_from=tokens_before([end for _, end in encoding.offsets], border),
            stop=len(encoding.ids),
        )
