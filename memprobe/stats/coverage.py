"""Coverage of a document by extractable windows, in characters.

A character is covered at a threshold tau if some window whose suffix contains it has p_z >= tau. Prefix
characters are never covered: they were given, not extracted.

References: Cooper et al. (2025), section 4, https://arxiv.org/abs/2505.12546
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a document is covered at one threshold.

    Attributes:
        tau: The threshold, a probability above 0.
        coverage_frac: Share of the document's characters that are covered.
        covered_chars: Number of covered characters.
        longest_run_chars: Number of characters in the longest covered stretch without a gap.
    """

    tau: float
    coverage_frac: float
    covered_chars: int
    longest_run_chars: int


def covered_chars(
    suffix_start_char: NDArray[np.int64],
    suffix_end_char: NDArray[np.int64],
    logp_nats: NDArray[np.float64],
    *,
    n_chars: int,
    tau: float,
) -> NDArray[np.bool_]:
    """Return whether each character is in the suffix of a window with p_z >= tau.

    Args:
        suffix_start_char: First character of each window's suffix, shape (n_windows,).
        suffix_end_char: One past the last character of each suffix, shape (n_windows,); an empty suffix
            covers nothing.
        logp_nats: ln p_z of each window, shape (n_windows,); -inf never covers.
        n_chars: Number of characters in the document.
        tau: Threshold on p_z, above 0 and at most 1.

    Returns:
        Whether each character is covered, shape (n_chars,).

    Raises:
        ValueError: The document is empty, tau is out of range, or a suffix is outside the document.
    """
    if n_chars < 1 or not 0 < tau <= 1:
        raise ValueError(f"{n_chars} characters and tau {tau}; need 1 or more, and above 0 up to 1")
    if len(suffix_start_char) and (
        suffix_start_char.min() < 0
        or suffix_end_char.max() > n_chars
        or (suffix_end_char < suffix_start_char).any()
    ):
        raise ValueError(f"a suffix is outside the document of {n_chars} characters")
    extracted = logp_nats >= math.log(tau)
    # +1 where a suffix begins, -1 just after it ends: the running sum counts the suffixes at a character.
    change = np.zeros(n_chars + 1, dtype=np.int64)
    np.add.at(change, suffix_start_char[extracted], 1)
    np.add.at(change, suffix_end_char[extracted], -1)
    return np.asarray(np.cumsum(change[:-1]) > 0)


def coverage(
    suffix_start_char: NDArray[np.int64],
    suffix_end_char: NDArray[np.int64],
    logp_nats: NDArray[np.float64],
    *,
    n_chars: int,
    tau: float,
) -> Coverage:
    """Return how much of a document windows extract with probability `tau` or more.

    The arguments and errors are those of `covered_chars`.
    """
    covered = covered_chars(suffix_start_char, suffix_end_char, logp_nats, n_chars=n_chars, tau=tau)
    n_covered = int(covered.sum())
    return Coverage(tau, n_covered / n_chars, n_covered, _longest_run(covered))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
