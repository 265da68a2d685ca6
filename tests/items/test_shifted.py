"""Shifted columns and files without a header: no message quotes an item's text."""

import json

import pytest

SECRET = "Mirabel keeps quokka"


FILES = {
    "one-too-many": ("i.csv", f"item_id,text,exposures\na,{SECRET}, and more,3\n"),
    "one-too-few": ("i.csv", f"item_id,text,exposures\na,{SECRET}\n"),
    "in-a-count": ("i.csv", f"item_id,text,exposures\na,b,{SECRET}\n"),
    "in-a-step": ("i.csv", f"text,first_step\na,{SECRET}\n"),
    "in-a-list": ("i.csv", f"input_ids\n{SECRET}\n"),
    "in-a-share": ("i.csv", f"text,segment_1,segment_2,excerpt_start_frac\na b,a,b,{SECRET}\n"),
    "in-a-truth": ("i.csv", f"text,segment_1,segment_2,earlier_first\na b,a,b,{SECRET}\n"),
    "in-a-split": ("i.csv", f"text,segment_1,segment_2,split\na b,a,b,{SECRET}\n"),
    "no-header": ("i.csv", f"{SECRET},1\nother words,2\n"),
    "no-header-twice": ("i.csv", f"{SECRET},{SECRET}\nother words,2\n"),
    "open-quote": ("i.csv", f'text\n"{SECRET}\n'),
    "list-in-json": ("i.jsonl", json.dumps({"text": "a b", "exposures": [SECRET]}) + "\n"),
    "text-in-json": ("i.jsonl", json.dumps({"text": "a b", "exposures": SECRET}) + "\n"),
    "steps-in-json": ("i.jsonl", json.dumps({"text": "a b", "exposure_steps": [SECRET]}) + "\n"),
    "list-as-text": ("i.jsonl", json.dumps({"text": [SECRET]}) + "\n"),
    "cut-json": ("i.jsonl", json.dumps({"text": SECRET})[:-3] + "\n"),
}


@pytest.mark.parametrize("command", ["run", "data check"])
@pytest.mark.parametrize("name", FILES)
def test_no_message_quotes_the_text(name, command, cli, tiny, tmp_path):
    file = tmp_path / FILES[name][0]
    file.write_text(FILES[name][1])
    args = (
        ["run", "-p", "recall", "-m", tiny.model, "-d", file, "-o", tmp_path / "run"]
        if command == "run"
        else ["data", "check", file]
    )
    answer = cli(*args)
    assert answer.code == 2, answer.err
    for word in SECRET.split():
        assert word not in answer.err + answer.out


def test_canaries_of_the_lab_are_not_quoted(tmp_path):
    from memprobe.errors import ItemError
    from memprobe.lab.canaries import read_canaries

    file = tmp_path / "c.jsonl"
    rows = [
        {"prefix": [SECRET], "suffix": "b", "exposures": SECRET, "item_id": [SECRET]},
        {"prefix": "a", "suffix": {SECRET: 1}, "exposures": 1},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ItemError) as caught:
        read_canaries(file, {})
    assert "Mirabel" not in str(caught.value)
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 25])
@pytest.mark.parametrize("name", ["i.csv", "i.jsonl", "i.json"])
def test_huge_numbers_in_the_user_s_columns(digits, name, cli, tiny, tmp_path):
    """In a CSV they are text; JSON numbers of thousands of digits are refused with their line."""
    row = f'{{"text": "a b c d", "x": {digits}}}'
    texts = {"i.csv": f"text,x\na b c d,{digits}\n", "i.jsonl": row + "\n", "i.json": f"[{row}]"}
    file = tmp_path / name
    file.write_text(texts[name])
    answer = cli("run", "-p", "recall", *tiny.one[:2], "-d", file, "--steps", "20", "-o", tmp_path / "run")
    assert answer.code == (2 if len(digits) > 4300 and name != "i.csv" else 0), answer.err
    if answer.code:
        assert "a number with thousands of digits" in answer.err
