"""Discovery of probes: those of this package, and plugins.

A plugin is a probe in another package. That package declares it in the entry point group `memprobe.probes`:
`my_probe = "my_package.my_module:PROBE"`.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata

from memprobe.errors import SuiteError
from memprobe.probes.contract import Probe
from memprobe.tables.requests import REQUESTS
from memprobe.tables.schema import TableSchema
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY
from memprobe.tables.views import WINDOWS
from memprobe.wording import near_miss

GROUP = "memprobe.probes"
_SHARED = (SUMMARY, DOSE_RESPONSE, WINDOWS)
_TAKEN = frozenset({"items", "spans", REQUESTS.name, "differences", *(each.name for each in _SHARED)})


@cache
def built_in() -> dict[str, Probe]:
    """Return the probes of this package by name: `PROBE` of every module or subpackage that has one."""
    package = importlib.import_module("memprobe.probes")
    modules = (
        importlib.import_module(f"memprobe.probes.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    )
    found = [module.PROBE for module in modules if hasattr(module, "PROBE")]
    return {probe.name: probe for probe in sorted(found, key=lambda probe: str(probe.name))}


def discover() -> dict[str, Probe]:
    """Return all probes by name: those of this package first, then plugins.

    Example:
        memprobe.probes()["recall"].options()
    """
    return dict(_all()[0])


def unusable() -> dict[str, str]:
    """Return, by the name of each plugin that cannot be used, the reason."""
    return dict(_all()[1])


def find(name: str) -> Probe:
    """Return the probe with the given name.

    Raises:
        SuiteError: No probe has this name (the message suggests a similar one), or it is a plugin that
            cannot be used.
    """
    probes, broken = _all()
    if name in probes:
        return probes[name]
    if name in broken:
        raise SuiteError(
            f"the probe `{name}` cannot be used: {broken[name]}",
            where=packages()[name],
            fix="repair or remove that package, or name other probes with -p",
        )
    raise SuiteError(
        f"unknown probe `{name}`{near_miss(name, probes)}", fix=f"probes are {', '.join(probes)}"
    )


def following(command: str) -> Probe:
    """Return the probe that measures the items made by a command, such as `data split`."""
    return next(probe for probe in built_in().values() if command in probe.follows)


def packages() -> dict[str, str]:
    """Return the package and version of each plugin by probe name; several packages if they share a name."""
    found: dict[str, str] = {}
    for entry in _entry_points():
        found[entry.name] = ", ".join(filter(None, (found.get(entry.name), _package(entry))))
    return found


def schemas() -> Iterator[TableSchema]:
    """Yield the schemas of all tables that a run can have; two have one name if windows add columns."""
    yield from _SHARED
    for probe in discover().values():
        yield from probe.schemas


@cache
def _all() -> tuple[Mapping[str, Probe], Mapping[str, str]]:
    """Return the probes by name, and the reasons why other plugins cannot be used."""
    probes, broken = dict(built_in()), {}
    entries = _entry_points()
    names = Counter(entry.name for entry in entries)
    for entry in entries:
        found = (
            _load(entry, probes) if names[entry.name] == 1 else "several packages bring a probe of this name"
        )
        if isinstance(found, Probe):
            probes[entry.name] = found
        else:
            broken[entry.name] = found
    return probes, broken


def _entry_points() -> list[metadata.EntryPoint]:
    return sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))


def _package(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _load(entry: metadata.EntryPoint, known: Mapping[str, Probe]) -> Probe | str:
    """Return the probe of an entry point, or the reason why it cannot be used."""
    if entry.name in known:
        return f"there is a probe `{entry.name}` already"
    try:
        probe = entry.load()
        written = {each.name for each in probe.schemas} if isinstance(probe, Probe) else set()
    except Exception as error:  # the code of another package can raise anything
        return f"{entry.value} cannot be used ({type(error).__name__}: {error})"
    if not isinstance(probe, Probe):
        return f"{entry.value} is a {type(probe).__name__}, not a Probe"
    if probe.name != entry.name:
        return f"{entry.value} calls itself `{probe.name}`"
    taken = _TAKEN.union(*({each.name for each in other.schemas} for other in known.values()))
    if both := sorted(written & taken):
        return f"it writes tables of names that are taken: {', '.join(both)}"
    return probe
