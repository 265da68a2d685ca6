"""Prompts that a search found, sealed with the target they produce: a unit holds no token ids to read.

The keystream is SHAKE-256 of the target's token ids and of the unit's name, so whoever has the item can
open the seal, to start the next search from the prompt, and the run directory alone cannot. It hides no
more than a hash of the target would: who guesses the target can open it too, and no key of the seal
says whether it was opened rightly. The prompt's length stays visible.

Source: FIPS 202, https://doi.org/10.6028/NIST.FIPS.202 (SHAKE-256 as an extendable-output function).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_DOMAIN = b"memprobe prompt"


def seal(prompt: NDArray[np.int64], target: NDArray[np.int64], context: str) -> bytes:
    """Return the prompt's ids as bytes that only the target opens.

    Args:
        prompt: Token ids, shape (n_tokens,), each below 2^31.
        target: Token ids of the target, shape (n_target_tokens,).
        context: Names the unit: under another one the same prompt and target give other bytes.
    """
    plain = prompt.astype("<i4").view(np.uint8)
    return (plain ^ _keystream(target, context, len(plain))).tobytes()


def unseal(sealed: bytes, target: NDArray[np.int64], context: str) -> NDArray[np.int64]:
    """Return the ids that `seal` took, if target and context are the same; else other numbers."""
    hidden = np.frombuffer(sealed, dtype=np.uint8)
    return (hidden ^ _keystream(target, context, len(hidden))).view("<i4").astype(np.int64)


def _keystream(target: NDArray[np.int64], context: str, n_bytes: int) -> NDArray[np.uint8]:
    name = context.encode()
    # Lengths in front: no two pairs of target and context run together to the same bytes.
    lengths = np.asarray([len(target), len(name)], dtype="<i8").tobytes()
    key = hashlib.shake_256(_DOMAIN + lengths + target.astype("<i8").tobytes() + name)
    return np.frombuffer(key.digest(n_bytes), dtype=np.uint8)
