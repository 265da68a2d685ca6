"""A document is believed only where it says what was written."""

import json

import pytest

from memprobe.tables.checked_json import KEY, AlteredDocumentError, sealed, unsealed

DOCUMENT = {"format": 1, "n": 24, "share": 0.1, "names": ("a", "ü"), "none": None, "by_step": {10: True}}
PLAIN = {"format": 1, "n": 24, "share": 0.1, "names": ["a", "ü"], "none": None, "by_step": {"10": True}}


def written(document: object, **how: object) -> bytes:
    return json.dumps(document, **how).encode()


def test_a_sealed_document_is_read_as_it_was_written() -> None:
    assert unsealed(written(sealed(DOCUMENT))) == PLAIN
    # Sealed again, an earlier digest is no part of what it says.
    assert sealed(sealed(DOCUMENT)) == sealed(DOCUMENT)


def test_its_form_does_not_matter() -> None:
    text = written(sealed(DOCUMENT), indent=4, ensure_ascii=False, sort_keys=True)
    assert unsealed(text) == PLAIN


def test_a_single_bit_changes_nothing_or_is_seen() -> None:
    content = written(sealed(DOCUMENT), indent=2, ensure_ascii=False)
    n_seen = 0
    for place in range(8 * len(content)):
        altered = bytearray(content)
        altered[place // 8] ^= 1 << place % 8
        try:
            found = unsealed(bytes(altered))
        except AlteredDocumentError:
            n_seen += 1
            continue
        # White space for other white space, or the digest under another name.
        assert {name: value for name, value in found.items() if name in PLAIN} == PLAIN
        assert len(found) <= len(PLAIN) + 1
    assert n_seen > 7 * len(content)


def test_a_document_without_a_digest_is_taken_as_it_is() -> None:
    assert unsealed(b'{"format": 1}') == {"format": 1}
    assert unsealed(b"[1]") == [1]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(content) -> None:
    with pytest.raises(AlteredDocumentError, match="it is not JSON"):
        unsealed(content)


def test_the_name_of_the_digest_is_part_of_the_format() -> None:
    assert KEY == "sha256"
    assert list(sealed(DOCUMENT))[-1] == KEY
