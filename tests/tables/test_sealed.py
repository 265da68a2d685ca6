"""Sealed prompts: what opens them, what does not, and that a directory alone shows nothing of them."""

import hashlib

import numpy as np
import pytest

from memprobe.tables.sealed import seal, unseal

TARGET = np.array([7, 70, 700], dtype=np.int64)
PROMPT = np.array([5, 0, 50_256, 2**31 - 1], dtype=np.int64)


def test_who_has_target_and_name_opens_the_seal() -> None:
    opened = unseal(seal(PROMPT, TARGET, "context-unit"), TARGET, "context-unit")
    assert opened.tolist() == PROMPT.tolist()
    assert opened.dtype == np.int64
    assert unseal(seal(PROMPT[:0], TARGET, "x"), TARGET, "x").tolist() == []


def test_the_keystream_is_shake_256_of_domain_lengths_target_and_name() -> None:
    # FIPS 202's function over the bytes written out by hand; a prompt of zeros shows the keystream itself.
    text = b"memprobe prompt" + b"".join(
        each.to_bytes(8, "little") for each in (len(TARGET), len(b"c-u"), *TARGET.tolist())
    )
    expected = hashlib.shake_256(text + b"c-u").digest(16)
    assert seal(np.zeros(4, dtype=np.int64), TARGET, "c-u") == expected


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (TARGET, "context-other"),
        (TARGET + 1, "context-unit"),
        (TARGET[:2], "context-unit"),
        (TARGET[::-1].copy(), "context-unit"),
    ],
)
def test_another_target_or_name_opens_something_else(target, name) -> None:
    sealed = seal(PROMPT, TARGET, "context-unit")
    assert unseal(sealed, target, name).tolist() != PROMPT.tolist()
    # Nor do two seals cancel to the difference of their prompts, as under one keystream they would.
    assert seal(PROMPT, target, name) != sealed


def test_target_and_name_do_not_run_into_each_other() -> None:
    one = seal(PROMPT, np.array([1, 2]), "a")
    name = np.array([2], dtype="<i8").tobytes().decode() + "a"
    assert seal(PROMPT, np.array([1]), name) != one


def test_no_id_can_be_read_in_the_bytes() -> None:
    sealed = seal(PROMPT, TARGET, "context-unit")
    # Only the length shows, which the table tells anyway.
    assert len(sealed) == 4 * len(PROMPT)
    assert not set(PROMPT.tolist()) & set(np.frombuffer(sealed, dtype="<i4").tolist())
