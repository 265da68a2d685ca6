"""Encryption of found prompts with the target that they produce, so that units hold no readable token ids.

The keystream is SHAKE-256 of the target's token ids and of the unit's name. With the item, a process can
open the seal, to start the next search from the prompt; with the run directory alone, it cannot. The seal
protects no better than a hash of the target: anyone who guesses the target can open it too, and nothing in
it shows whether it was opened with the right target. The prompt's length stays visible.

Source: FIPS 202, https://doi.org/10.6028/NIST.FIPS.202 (SHAKE-256 as an extendable-output function).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_DOMAIN = b"memprobe prompt"


def seal(prompt: NDArray[np.int64], target: NDArray[np.int64], context: str) -> bytes:
    """Return the prompt's ids as bytes that can be opened only with the target.

    Args:
        prompt: Token ids, shape (n_tokens,), each below 2^31.
        target: Token ids of the target, shape (n_target_tokens,).
        context: Name of the unit; under another name the same prompt and target give other bytes.
    """
    plain = prompt.astype("<i4").view(np.uint8)
    return (plain ^ _keystream(target, context, len(plain))).tobytes()


def unseal(sealed: bytes, target: NDArray[np.int64], context: str) -> NDArray[np.int64]:
    """Return the ids given to `seal` if target and context are the same, else other numbers."""
    hidden = np.frombuffer(sealed, dtype=np.uint8)
    return (hidden ^ _keystream(target, context, len(hidden))).view("<i4").astype(np.int64)


def _keystream(target: NDArray[np.int64], context: str, n_bytes: int) -> NDArray[np.uint8]:
    name = context.encode()
    # The lengths come first, so that no two pairs of target and context give the same bytes.
    lengths = np.asarray([len(target), len(name)], dtype="<i8").tobytes()
    key = hashlib.shake_256(_DOMAIN + lengths + target.astype("<i8").tobytes() + name)
    return np.frombuffer(key.digest(n_bytes), dtype=np.uint8)
