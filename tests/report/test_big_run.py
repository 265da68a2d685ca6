"""A run of many steps, small enough for every test run: what is averaged, thinned out or cut short."""

import pytest

from memprobe.bench.page import write_report
from tests.report.big_run import write_big_run


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    run = write_big_run(tmp_path_factory.mktemp("big") / "run", n_items=60, n_steps=80, n_groups=30)
    return write_report(run).read_text()


def test_a_page_of_many_steps_stays_small(page) -> None:
    assert len(page) < 1_000_000


def test_groups_and_steps_that_are_not_shown_are_counted(page) -> None:
    # 30 groups, 20 of them shown; 80 steps, every fourth of them from the last; 80 checkpoints, every second.
    assert "10 more in summary.csv" in page
    assert page.count('<th scope="row">79,000</th>') == 2
    assert "80 checkpoints (40 shown)" in page


def test_numbers_of_a_long_sequence_include_its_last_step(page) -> None:
    assert ">79,000<" in page
    assert ">step79000<" in page
