"""Where the tokens of a text are in it, for cutting documents; no model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memprobe.errors import InputError
from memprobe.scoring.tokenise import untrimmed


def token_offsets(tokenizer: Any, text: str) -> NDArray[np.int64]:  # noqa: ANN401
    """Return first and one past the last character of each token, shape (n_tokens, 2).

    No special tokens. Tokens that share a character, as its bytes, all cover it.

    Raises:
        InputError: The tokenizer gives no character offsets.
    """
    if not bool(getattr(tokenizer, "is_fast", False)):
        raise InputError(
            "this tokenizer gives no character offsets",
            fix="name a fast one (with a tokenizer.json) with --tokenizer, or cut --by words",
        )
    with untrimmed(tokenizer, wanted=True):
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return _with_marks(np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2), text)


def _with_marks(offsets: NDArray[np.int64], text: str) -> NDArray[np.int64]:
    """Give characters that no token covers to the token before them; left-out spaces stay out.

    They are combining marks that a normalizer joined with their letter.
    """
    if not len(offsets):
        return offsets
    ends = np.maximum.accumulate(offsets[:, 1])
    following = np.append(offsets[1:, 0], len(text))
    for place in np.flatnonzero(following > ends):
        gap = text[ends[place] : following[place]]
        n_marks = next((n for n, character in enumerate(gap) if character.isspace()), len(gap))
        if n_marks and offsets[place, 1] == ends[place]:
            # Tokens of the same character all cover it.
            offsets[(offsets[:, 1] == ends[place]) & (offsets[:, 0] == offsets[place, 0]), 1] += n_marks
    return offsets
