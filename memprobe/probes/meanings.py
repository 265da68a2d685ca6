"""The meanings of a probe's options, read from the docstring of its settings."""

import inspect
import re

_ENTRY = re.compile(r" {4}(\w+): (.*)")


def option_meanings(settings: type) -> dict[str, str]:
    """Return the meaning of each option, by its name, from the `Attributes:` section of a settings class.

    `None:` and `None;` in the docstring become `left out:` and `left out;`, as in a suite. The result is
    empty if there are no options, or if Python runs without docstrings.
    """
    lines = iter((inspect.getdoc(settings) or "").splitlines())
    for line in lines:
        if line == "Attributes:":
            break
    meanings: dict[str, str] = {}
    name = ""
    for line in lines:
        if line and not line.startswith(" "):
            break
        if entry := _ENTRY.fullmatch(line):
            name = entry[1]
            meanings[name] = entry[2]
        elif line.strip() and name:
            meanings[name] += f" {line.strip()}"
    return {
        key: text.replace("None:", "left out:").replace("None;", "left out;")
        for key, text in meanings.items()
    }
