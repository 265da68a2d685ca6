"""Settings of the site that `make docs` builds from these pages with Sphinx and MyST.

The pages are plain Markdown that can also be read where they are. The navigation of the site is made from the
lists of links on the start page, so that it is written once.
"""

import re
from typing import Any

project = "memprobe"
author = copyright = "memprobe contributors"  # noqa: A001
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "memprobe"
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["wide-tables.css"]
# Anchors of headings as code hosting sites make them.
myst_heading_anchors = 4

# Pages of a folder that its first page gathers, whatever their number.
GATHERED = {"validation/coverage": "coverage-*"}
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK = re.compile(r"^- \[[^\]]+\]\(([^)#]+)\.md\)", re.MULTILINE)


def navigation(page: str) -> str:
    """Return a hidden table of contents for each section of the start page."""
    _, *parts = _SECTION.split(page)
    sections = zip(parts[::2], parts[1::2], strict=True)
    return "".join(_contents(_LINK.findall(body), f":caption: {name}") for name, body in sections)


def _contents(pages: list[str], *options: str) -> str:
    return "\n".join(("\n```{toctree}", ":hidden:", *options, "", *pages, "```\n"))


def add_navigation(app: Any, page: str, source: list[str]) -> None:  # noqa: ANN401, ARG001
    """Append the navigation to a page that has one."""
    if page == "index":
        source[0] += navigation(source[0])
    elif page in GATHERED:
        source[0] += _contents([GATHERED[page]], ":glob:")


def setup(app: Any) -> None:  # noqa: ANN401
    """Let Sphinx add the navigation when it reads a page."""
    app.connect("source-read", add_navigation)
