"""Suites to start from: what `memprobe init` writes; the files ship under data/templates."""

import functools
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from memprobe.errors import InputError
from memprobe.shipped import shipped_folder
from memprobe.wording import counted, near_miss

# Where a file belongs that does not lie beside the suite: GitHub reads workflows in this folder alone.
_PLACES = {"workflow.yml": Path(".github") / "workflows" / "memprobe.yml"}
# In the files: stands for the folder that they are written to, as the user named it.
_FOLDER = re.compile(r"FOLDER/([\w./-]+)")


@dataclass(frozen=True, slots=True)
class Started:
    """The files that were written.

    Attributes:
        template: Its name.
        files: The files, suite first.
        command: The run that they are for, MODEL still to be named.
    """

    template: str
    files: tuple[Path, ...]
    command: str


def template_names() -> list[str]:
    """Return the names of the templates that ship."""
    return sorted(each.name for each in (shipped_folder("data") / "templates").iterdir() if each.is_dir())


@functools.cache
def placeholder_hashes() -> frozenset[str]:
    """Return the content hashes of the items of all templates: with their foil, without, and as one text.

    Item by item, so that further items next to them hide nothing.
    """
    from memprobe.tables.content import content_hash

    hashes = set()
    for name in template_names():
        file = shipped_folder("data") / "templates" / name / "items.jsonl"
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            content = {key: row[key] for key in ("text", "prefix", "suffix") if row.get(key)}
            whole = {"text": content.get("text") or content["prefix"] + content["suffix"]}
            foils: list[dict[str, str]] = [{}, *([{"foil": row["foil"]}] if row.get("foil") else [])]
            hashes |= {content_hash(way | foil) for way in (content, whole) for foil in foils}
    return frozenset(hashes)


def write_template(name: str, folder: Path) -> Started:
    """Write a suite, its items, and what goes with them into a folder, which is made where it is absent.

    Raises:
        InputError: There is no such template, or a file of its would be overwritten; nothing is written.
    """
    if name not in template_names():
        raise InputError(
            f"unknown template `{name}`{near_miss(name, template_names())}",
            where="--template",
            fix=f"templates are {', '.join(template_names())}",
        )
    sources = sorted((shipped_folder("data") / "templates" / name).iterdir(), key=_suite_first)
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file, not a folder", where=str(folder))
    if there := [str(place) for source in sources if (folder / (place := _place(source))).exists()]:
        raise InputError(
            f"{counted(len(there), 'file')} would be overwritten: {', '.join(there)}",
            where=str(folder),
            fix="name another folder, or move what is there",
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(source, folder) for source in sources]
    command = f"memprobe run {shlex.quote(str(folder / 'suite.toml'))} -m MODEL"
    return Started(name, tuple(written), command)


def _suite_first(file: Path) -> tuple[bool, bool, str]:
    return file.name != "suite.toml", file.suffix != ".toml", file.name


def _place(source: Path) -> Path:
    return _PLACES.get(source.name, Path(source.name))


def _write(source: Path, folder: Path) -> Path:
    """Write one file, the folder's name put in as the file's language quotes it."""
    quote = {
        ".toml": lambda path: json.dumps(path, ensure_ascii=False)[1:-1],
        ".md": shlex.quote,
        ".yml": shlex.quote,
    }
    text = source.read_text(encoding="utf-8")
    if source.suffix in quote:
        text = _FOLDER.sub(lambda found: quote[source.suffix](str(folder / found[1])), text)
    target = folder / _place(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
    return target
