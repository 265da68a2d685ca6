"""Line numbers of the rules in their file, for messages and SARIF; `tomllib` does not give them."""

import re
from dataclasses import dataclass

from memprobe.parsing import UnreadableError, parse_toml

_HEADER = re.compile(r"""[ \t]*\[\[[ \t]*(?:rule|"rule"|'rule')[ \t]*\]\]""")


@dataclass(frozen=True, slots=True)
class RuleLines:
    """The lines of a rules file that belong to one rule.

    Attributes:
        first: Number of the rule's first line, from 1.
        lines: Lines from there to the next rule.
    """

    first: int
    lines: tuple[str, ...]

    def of(self, *keys: str) -> int:
        """Return the line of the first of these keys that has one, or else the rule's first line."""
        for key in keys:
            named = re.compile(rf"""\s*(?:\[rule\.)?["']?{re.escape(key)}["']?\s*[=\].]""")
            inside = re.compile(rf"""[{{,.]\s*["']?{re.escape(key)}["']?\s*=""")
            for form in (named.match, inside.search):
                for number, line in enumerate(self.lines):
                    if form(line):
                        return self.first + number
        return self.first


def rule_lines(text: str, n_rules: int) -> list[RuleLines]:
    """Return the lines of each rule of a rules file, which must be valid TOML.

    A line is the header `[[rule]]` only if the text above it is valid TOML; inside a multi-line string or
    array it is not a header. Rules that are written without headers get line 1.
    """
    lines = text.splitlines()
    headers: list[int] = []
    for number, line in enumerate(lines):
        # The text above the last header is already known to be valid.
        if _HEADER.match(line) and _is_whole("\n".join(lines[headers[-1] if headers else 0 : number])):
            headers.append(number)
    if len(headers) != n_rules:
        return [RuleLines(1, ())] * n_rules
    ends = [*headers[1:], len(lines)]
    return [RuleLines(start + 1, tuple(lines[start:end])) for start, end in zip(headers, ends, strict=False)]


def _is_whole(text: str) -> bool:
    try:
        parse_toml(text)
    except UnreadableError:
        return False
    return True
