"""Documents from item files: what is carried through, and what is no document."""

import pytest

from memprobe.documents import read_documents
from memprobe.errors import ItemError


def test_a_text_file_is_one_document_without_its_byte_order_mark(tmp_path) -> None:
    (tmp_path / "book.txt").write_bytes("\ufeffOne\r\ntwo".encode())
    (document,) = read_documents([str(tmp_path / "book.txt")]).documents
    assert (document.name, document.doc_id, document.text) == ("book", "book", "One\ntwo")


def test_what_an_item_has_besides_its_text_is_carried(tmp_path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(
        '{"item_id": "p1", "doc_id": "d", "text": "x", "group": "g", "first_step": null, "year": 1851}'
    )
    source = read_documents([str(file)])
    assert source.documents[0].doc_id == "d"
    assert source.documents[0].carried == {"group": "g", "first_step": None, "year": 1851}
    # last_step was not given, and comes with nothing but first_step.
    assert set(source.schema) == {"group", "first_step", "year"}


def test_without_a_doc_id_a_document_is_its_own(tmp_path) -> None:
    (tmp_path / "d.jsonl").write_text('{"item_id": "p1", "text": "x"}')
    (document,) = read_documents([str(tmp_path / "d.jsonl")]).documents
    assert document.doc_id == "p1"


def test_items_that_are_no_text_are_named(tmp_path) -> None:
    rows = [
        '{"text": "fine"}',
        '{"item_id": "cut", "prefix": "a", "suffix": "b"}',
        '{"item_id": "ids", "input_ids": [1]}',
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(rows))
    with pytest.raises(ItemError) as caught:
        read_documents([str(tmp_path / "d.jsonl")])
    told = str(caught.value)
    assert "item cut is cut already" in told
    assert "item ids is given as token ids" in told
    assert "d.jsonl, line 3" in told
