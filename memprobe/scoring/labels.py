"""The tokens that spell the labels of an answer."""

from typing import Any

import numpy as np

from memprobe.errors import CheckpointError
from memprobe.scoring.tokenise import Ids


def label_ids(tokenizer: Any, labels: tuple[str, str], vocabulary: int) -> tuple[Ids, Ids]:  # noqa: ANN401
    """Return the ids of each label: all tokens that decode to it, ignoring white space around it.

    A label with a space, a line break or nothing in front is thus the same label, and whichever form the
    tokenizer writes after the stem is counted.

    Args:
        tokenizer: A transformers tokenizer.
        labels: The two labels.
        vocabulary: Number of ids that the model has.

    Raises:
        CheckpointError: No single token spells a label.
    """
    n = min(len(tokenizer), vocabulary)
    spelled = [text.strip() for text in tokenizer.batch_decode([[i] for i in range(n)])]
    found = tuple(
        np.asarray([i for i, text in enumerate(spelled) if text == label], dtype=np.int64) for label in labels
    )
    missing = [label for label, ids in zip(labels, found, strict=True) if not len(ids)]
    if missing:
        named = " or ".join(f"`{each}`" for each in missing)
        raise CheckpointError(
            f"no single token of this tokenizer spells the label {named}",
            fix="take a template whose labels are single tokens, such as `A` and `B` or `1` and `2`",
        )
    return found[0], found[1]
