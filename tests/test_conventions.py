"""The page of conventions names tests that exist, so that none of what it says goes untested unseen."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "conventions.md").read_text()


def test_each_section_names_tests_that_are_there() -> None:
    for section in PAGE.split("\n## ")[1:]:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section)
        assert named, section.splitlines()[0]
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_the_page_names_the_values_of_the_setting() -> None:
    from typing import get_args, get_type_hints

    from memprobe.probes.profile import Settings

    told = re.findall(r"^\| `(\w+)`", PAGE.split("\n## ")[1], flags=re.MULTILINE)
    assert told == list(get_args(get_type_hints(Settings)["control"]))
