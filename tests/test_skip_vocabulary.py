"""`--on-bad-item skip` leaves out items with ids that the model does not have, and counts them."""

import json

import pytest

from memprobe.errors import ItemError

GOOD, FOREIGN = [5, 6, 7, 8], [5, 6, 256, 8]


@pytest.fixture
def data(make, tmp_path):
    def write(*ids):
        rows = [{"item_id": f"n{i}", "input_ids": each, "group": "g"} for i, each in enumerate(ids)]
        return str(make.items(tmp_path / "ids.jsonl", rows))

    return write


def test_they_are_left_out_and_the_others_score_as_alone(run, data, tmp_path):
    mixed = run(probes=["recall"], data=data(GOOD, FOREIGN, GOOD[::-1]), on_bad_item="skip")
    assert mixed.table("recall")["item_id"].to_list() == ["n0", "n2"]
    assert mixed.manifest["items"]["n_skipped"] == 1
    (skipped,) = [json.loads(line) for line in (mixed.path / "skipped.jsonl").read_text().splitlines()]
    assert (skipped["item_id"], skipped["line"], skipped["column"]) == ("n1", 2, "input_ids")
    assert skipped["reason"] == "item n1 holds the id 256, the model's vocabulary has 256"
    rows = [{"item_id": "n0", "input_ids": GOOD}, {"item_id": "n2", "input_ids": GOOD[::-1]}]
    (tmp_path / "alone.jsonl").write_text("".join(json.dumps(row | {"group": "g"}) + "\n" for row in rows))
    alone = run(probes=["recall"], data=str(tmp_path / "alone.jsonl"), out=tmp_path / "alone")
    assert mixed.summary.equals(alone.summary)


def test_the_same_command_goes_on(run, data):
    asked = {"probes": ["recall"], "data": data(GOOD, FOREIGN), "on_bad_item": "skip"}
    first = run(**asked)
    digest = first.manifest["items"]
    again = run(**asked)
    assert again.manifest["items"] == digest
    assert again.table("recall").height == 1


def test_without_skip_they_are_refused_and_none_left_is_an_error(run, data):
    with pytest.raises(ItemError, match="item n1 holds the id 256"):
        run(probes=["recall"], data=data(GOOD, FOREIGN))
    with pytest.raises(ItemError, match="no item is left: of 1, all are bad"):
        run(probes=["recall"], data=data(FOREIGN), on_bad_item="skip")
