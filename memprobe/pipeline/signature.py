"""Signatures and conditions of probe entries: the settings that their numbers depend on."""

import hashlib
from typing import Any

from memprobe.pipeline.suite import Entry, settings_table
from memprobe.tables.conditions import build

# Settings that are longer, or contain separators of signatures and conditions, are written as a digest.
_LONGEST = 200
_SEPARATORS = ";|\n"


def signature(entry: Entry, scoring: str) -> str:
    """Return everything that a number depends on except checkpoint and items, as a text."""
    settings = settings_table(entry.settings)
    probe = entry.probe
    parts = [f"{name}:{_short(value)}" for name, value in settings.items() if name not in probe.cosmetic]
    return "|".join([probe.name, f"v{probe.version}", *parts, scoring])


def _short(value: Any) -> str:  # noqa: ANN401
    """Return the text of a setting for signatures and conditions, or its digest if they cannot hold it."""
    text = _compact(value)
    if len(text) <= _LONGEST and not set(_SEPARATORS) & set(text):
        return text
    return f"sha-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _compact(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list):
        return ",".join(_compact(each) for each in value)
    if isinstance(value, dict):
        return "+".join(f"{name}{each}" for name, each in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def condition_prefixes(entries: tuple[Entry, ...]) -> list[str | None]:
    """Return, for each entry, the settings that distinguish it from other entries of the same probe."""
    prefixes = []
    for entry in entries:
        twins = [settings_table(each.settings) for each in entries if each.probe.name == entry.probe.name]
        mine = settings_table(entry.settings)
        differing = [name for name in mine if any(twin.get(name) != mine[name] for twin in twins)]
        prefixes.append(build(**{name: _short(mine[name]) for name in differing}))
    return prefixes
