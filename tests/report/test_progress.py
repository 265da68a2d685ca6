"""Status lines: neighbours that are alike share one, durations have two units."""

import pytest

from memprobe.report.progress import rows_of
from memprobe.wording import duration


def checkpoints(*done, n_units=4, failed=(), model="m"):
    return [
        {
            "model": model,
            "revision": f"step{number}",
            "step": number,
            "n_done": n,
            "n_units": n_units,
            "error": "torn" if number in failed else None,
        }
        for number, n in enumerate(done)
    ]


def test_alike_neighbours_share_a_line_and_begun_ones_stand_alone():
    rows = rows_of(checkpoints(4, 4, 1, 2, 0, 0, 0, 4, failed=[6]))
    assert rows == [
        ("m step 0 to 1 (2)", 8, 8, "done"),
        ("m step 2", 1, 4, "begun"),
        ("m step 3", 2, 4, "begun"),
        ("m step 4 to 5 (2)", 0, 8, "open"),
        ("m step 6", 0, 4, "failed"),
        ("m step 7", 4, 4, "done"),
    ]


def test_models_do_not_share_a_line():
    rows = rows_of([*checkpoints(4, model="a"), *checkpoints(4, model="b")])
    assert [label for label, *_ in rows] == ["a step 0", "b step 0"]


def test_a_long_motley_run_is_cut_into_few_lines_that_lose_nothing():
    motley = checkpoints(*([4, 1, 0] * 50), failed=[1])
    rows = rows_of(motley)
    assert len(rows) <= 20
    assert sum(done for _, done, _, _ in rows) == 50 * 5
    assert sum(total for _, _, total, _ in rows) == 150 * 4
    # 150 checkpoints in lines of 8: 0 to 7 hold 4+1+0+4+1+0+4+1 = 15 of 32.
    assert rows[0] == ("m step 0 to 7 (8)", 15, 32, "1 failed")
    assert rows[1][3] == "begun"
    assert rows[-1][0] == "m step 144 to 149 (6)"


def test_units_in_all_may_be_unknown():
    assert rows_of(checkpoints(3, n_units=None)) == [("m step 0", 3, None, "begun")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3_600, "1 h 0 min"),
        (18_750, "5 h 12 min"),
        (86_399, "23 h 59 min"),
        (183_600, "2 d 3 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text
