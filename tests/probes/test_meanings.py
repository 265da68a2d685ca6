"""Meanings of options come from the docstring of the settings, each option with one."""

from dataclasses import dataclass

import pytest

from memprobe.probes.discovery import discover
from memprobe.probes.meanings import option_meanings


@dataclass(frozen=True)
class Settings:
    """Options of nothing.

    Attributes:
        first: What it is; None: all there
            is of it, over two lines.
        second: None; the other: with a colon.

    Raises:
        ValueError: No option.
    """

    first: int | None = None
    second: int = 2


@dataclass(frozen=True)
class Nothing:
    """No options."""


def test_a_section_is_read_to_its_end_with_folded_lines_joined():
    assert option_meanings(Settings) == {
        "first": "What it is; left out: all there is of it, over two lines.",
        "second": "left out; the other: with a colon.",
    }


def test_without_a_section_or_a_docstring_there_are_none():
    assert option_meanings(Nothing) == {}
    assert option_meanings(type("Bare", (), {"__doc__": None})) == {}


@pytest.mark.parametrize("name", list(discover()))
def test_every_option_of_every_probe_has_a_meaning(name):
    probe = discover()[name]
    assert list(option_meanings(probe.settings)) == list(probe.options())
