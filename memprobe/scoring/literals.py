"""Special tokens that the items themselves contain; a text that spells one is read as that token."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memprobe.wording import counted

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Literals:
    """Counts of items whose ids contain special tokens before anything is put in front of them.

    Attributes:
        n_begin: Number of items that begin with the same token that is put in front of them.
        front: Name of that token; empty if no item begins with it.
        n_spell: Number of items whose text or foil spells a special token; the leading token counted in
            `n_begin` is ignored.
        spelled: Names of the special tokens that are spelled.
    """

    n_begin: int = 0
    front: str = ""
    n_spell: int = 0
    spelled: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each of the two kinds that occurs."""
        found = []
        if self.n_begin:
            verb = "begins" if self.n_begin == 1 else "begin"
            found.append(
                f"{counted(self.n_begin, 'item')} {verb} with `{self.front}`, which is put in front of "
                "each as well: the token is given twice (--bos none puts none in front)"
            )
        if self.n_spell:
            verb = "spells" if self.n_spell == 1 else "spell"
            names = ", ".join(f"`{token}`" for token in self.spelled)
            found.append(
                f"{counted(self.n_spell, 'item')} {verb} a special token ({names}): it is read as that "
                "token, not as its letters"
            )
        return tuple(found)


def literals_in(
    ids: Mapping[tuple[str, str], Ids],
    tokenizer: Any,  # noqa: ANN401
    *,
    as_ids: frozenset[str],
    front: Sequence[int],
    front_of_ids: Sequence[int],
) -> Literals:
    """Count the items that contain special tokens.

    Args:
        ids: Ids of each (item, part), without the tokens put in front.
        tokenizer: The tokenizer that made the ids of texts; None if there are no texts.
        as_ids: Items given as `input_ids`, whose special tokens are intended.
        front: Ids put in front of a text.
        front_of_ids: Ids put in front of items given as `input_ids`.
    """
    put_in_front = len(front) or len(front_of_ids)
    begin = {
        (item, part)
        for (item, part), values in (ids.items() if put_in_front else ())
        for put in [front_of_ids if item in as_ids and part == "text" else front]
        if len(put) and len(values) and values[0] == put[-1]
    }
    of_texts: Mapping[tuple[str, str], Ids] = ids
    if begin or as_ids:
        of_texts = {
            key: values[1:] if key in begin else values
            for key, values in ids.items()
            if key[1] != "text" or key[0] not in as_ids
        }
    items, tokens = _holding(of_texts, _control_ids(tokenizer))
    last = (*front_of_ids, *front)[-1:]
    return Literals(
        n_begin=len({item for item, _ in begin}),
        front="".join(_names(tokenizer, last)) if begin else "",
        n_spell=len(items),
        spelled=tuple(_names(tokenizer, tokens)),
    )


def _control_ids(tokenizer: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Return the ids of special tokens, except the unknown token, which a text gets without spelling it."""
    if tokenizer is None:
        return ()
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {int(number) for number, token in added.items() if getattr(token, "special", False)}
    special |= {int(number) for number in getattr(tokenizer, "all_special_ids", ())}
    ends = {getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None)}
    return tuple(sorted(special - ({getattr(tokenizer, "unk_token_id", None)} - ends)))


def _holding(ids: Mapping[tuple[str, str], Ids], wanted: Sequence[int]) -> tuple[set[str], list[int]]:
    """Return the items that contain a wanted id, and the wanted ids that occur."""
    if not ids or not wanted:
        return set(), []
    together = np.concatenate(list(ids.values()))
    places = np.flatnonzero(np.isin(together, np.asarray(wanted)))
    ends = np.cumsum([len(values) for values in ids.values()])
    keys = list(ids)
    rows = np.unique(np.searchsorted(ends, places, side="right"))
    return {keys[row][0] for row in rows}, np.unique(together[places]).tolist()


def _names(tokenizer: Any, ids: Iterable[int]) -> list[str]:  # noqa: ANN401
    if tokenizer is None:
        return [f"id {number}" for number in ids]
    return [str(tokenizer.convert_ids_to_tokens(int(number))) for number in ids]
