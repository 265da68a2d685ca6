"""Targets of a search as token ids: the item, random tokens, its words shuffled, plain and in a chat.

In a chat the ids are those of the template before the user's message, those between it and the target,
and the target; what is searched for is in the message.

Controls after Schwarzschild et al. (2024), section 4, https://arxiv.org/abs/2404.15146.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from memprobe.scoring.chat import split_chat
from memprobe.scoring.split import tokens_before, unjoined
from memprobe.scoring.tokenise import Ids, TokenisedItems, untrimmed
from memprobe.tables.views import TARGET_KINDS, Targets


@dataclass(frozen=True, slots=True)
class Target:
    """One string that a model is to be made to say.

    Attributes:
        item_id: The item.
        window: Which of `TARGET_KINDS`; those in the template are counted on from there.
        part: Name of the string.
        ids: All ids of the string; None: it cannot be represented.
        start: First token behind the free ones.
        score_from: First token of the target.
        stop: One past its last token.
    """

    item_id: str
    window: int
    part: str
    ids: Ids | None
    start: int = 0
    score_from: int = 0
    stop: int = 0


def targets_of(
    view: Targets,
    tokenised: TokenisedItems,
    tokenizer: Any,  # noqa: ANN401
    vocabulary: int,
) -> Iterator[Target]:
    """Yield the targets of each item, in the order of the items.

    Args:
        view: Which.
        tokenised: The items, tokenised as wholes.
        tokenizer: A transformers tokenizer; without one there are neither shuffled words nor a chat.
        vocabulary: Ids that the model has.

    Raises:
        CheckpointError: A chat is asked for and cannot be made with this tokenizer.
    """
    from memprobe.scoring.search import allowed_ids

    allowed = allowed_ids(tokenizer, vocabulary) if view.controls else np.zeros(0, np.int64)
    chat = _Chat.of(view, tokenizer) if view.chat else None
    unknown = _unknown_id(tokenizer)
    text = pl.coalesce("text", pl.concat_str("prefix", "suffix"))
    for item, content, whole in tokenised.table.select("item_id", "content_hash", text=text).iter_rows():
        ids = tokenised.ids[item, "text"][: view.target_tokens]
        if unknown is not None and (ids == unknown).any():
            yield Target(item, 0, "text", None)
            continue
        yield _plain(item, 0, "text", ids)
        if chat is not None:
            yield chat.target(item, 0, whole, ids, view)
        if view.controls:
            yield from _controls(view, item, content, ids, tokenizer, allowed, chat)


def _plain(item: str, window: int, part: str, ids: Ids) -> Target:
    return Target(item, window, part, ids, stop=len(ids))


def _controls(
    view: Targets,
    item: str,
    content: str,
    ids: Ids,
    tokenizer: Any,  # noqa: ANN401
    allowed: Ids,
    chat: "_Chat | None",
) -> Iterator[Target]:
    """Yield random tokens and shuffled words; an item of a single word has none to shuffle."""
    rng = np.random.default_rng(int(content[:16], 16))
    words = None if tokenizer is None else _shuffled(tokenizer.decode(ids.tolist()), rng)
    drawn = rng.choice(allowed, size=len(ids)).astype(np.int64)
    made: list[tuple[int, str | None, Ids]] = [(1, None, drawn)]
    if words is not None:
        encoded = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
        made.append((2, words, np.asarray(encoded, dtype=np.int64)[: view.target_tokens]))
    for window, text, tokens in made:
        if len(tokens) and not np.array_equal(tokens, ids):
            yield _plain(item, window, f"{TARGET_KINDS[window]}-{view.target_tokens or 'all'}", tokens)
            if chat is not None:
                yield chat.target(item, window, text, tokens, view)


def _shuffled(text: str, rng: np.random.Generator) -> str | None:
    """Return the words of a text in another order; None where there is none."""
    words = text.split()
    if len(set(words)) < 2:
        return None
    order = words
    while order == words:
        order = [words[place] for place in rng.permutation(len(words))]
    # A first word without its space would be other tokens for that alone.
    return (" " if text[:1].isspace() else "") + " ".join(order)


def _unknown_id(tokenizer: Any) -> int | None:  # noqa: ANN401
    """Return the id that stands for whatever the tokenizer cannot represent.

    Tokenizers of bytes name one that is the end of text too, and never use it for anything unknown.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    ends = (getattr(tokenizer, "eos_token_id", None), getattr(tokenizer, "bos_token_id", None))
    return None if unknown is None or unknown in ends else int(unknown)


@dataclass(frozen=True, slots=True)
class _Chat:
    """A chat template around what the user says.

    Attributes:
        tokenizer: The tokenizer.
        head: Ids before the user's message.
        after: What is between the message and the target, as text.
    """

    tokenizer: Any
    head: Ids
    after: str

    @classmethod
    def of(cls, view: Targets, tokenizer: Any) -> "_Chat":  # noqa: ANN401
        """Split the template at the user's message.

        Raises:
            CheckpointError: There is no template, or it cannot be split.
        """
        before, behind = split_chat(tokenizer, system=view.system)
        head, _ = _encode(tokenizer, before)
        return cls(tokenizer, head, behind + view.lead_in)

    def target(self, item: str, window: int, text: str | None, ids: Ids, view: Targets) -> Target:
        """Return a target as the answer: tokenised with what is before it, ids as they are."""
        if text is None:
            before, _ = _encode(self.tokenizer, self.after)
            answer, n_before = np.concatenate([before, ids]), len(before)
        else:
            answer, ends = _encode(self.tokenizer, self.after + text)
            # A token that crosses the border belongs to the target.
            normalizer = self.tokenizer.backend_tokenizer.normalizer
            n_before = tokens_before(ends, unjoined(normalizer, self.after + text, len(self.after)))
        end = None if view.target_tokens is None else n_before + view.target_tokens
        answer = answer[:end]
        n_head = len(self.head)
        kind = "" if window == 0 else f"-{TARGET_KINDS[window]}"
        return Target(
            item_id=item,
            window=len(TARGET_KINDS) + window,
            part=f"{view.chat_part}{kind}-{view.target_tokens or 'all'}",
            ids=np.concatenate([self.head, answer]),
            start=n_head,
            score_from=n_head + n_before,
            stop=n_head + len(answer),
        )


def _encode(tokenizer: Any, text: str) -> tuple[Ids, Ids]:  # noqa: ANN401
    """Return the ids of a text that may spell special tokens, and where each ends in it."""
    with untrimmed(tokenizer, wanted=True):
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    ends = np.maximum.accumulate(np.asarray([end for _, end in encoding.offsets], dtype=np.int64))
    return np.asarray(encoding.ids, dtype=np.int64), ends
