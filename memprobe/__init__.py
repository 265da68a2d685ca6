"""memprobe: what a language model remembers of its training data, and for how long.

The public names are resolved on first use, so `import memprobe` costs nothing that is not asked for. It
imports almost nothing, because until the command line has begun Ctrl-C shows a traceback.
"""

import sys
from types import ModuleType

from memprobe._version import __version__

# As in typing, which takes longer to import than all of this: type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from memprobe.comparison.runs import compare
    from memprobe.errors import MemprobeError
    from memprobe.exporting import export, read_csv
    from memprobe.gates.judge import gate
    from memprobe.pipeline.api import run
    from memprobe.pipeline.reading import Run, open_run
    from memprobe.pipeline.suite import load_suite
    from memprobe.probes.discovery import discover as probes

_PUBLIC = {
    "MemprobeError": ("memprobe.errors", "MemprobeError"),
    "Run": ("memprobe.pipeline.reading", "Run"),
    "compare": ("memprobe.comparison.runs", "compare"),
    "export": ("memprobe.exporting", "export"),
    "gate": ("memprobe.gates.judge", "gate"),
    "load_suite": ("memprobe.pipeline.suite", "load_suite"),
    "open_run": ("memprobe.pipeline.reading", "open_run"),
    "probes": ("memprobe.probes.discovery", "discover"),
    "read_csv": ("memprobe.exporting", "read_csv"),
    "run": ("memprobe.pipeline.api", "run"),
}

__all__ = [
    "MemprobeError",
    "Run",
    "__version__",
    "compare",
    "export",
    "gate",
    "load_suite",
    "open_run",
    "probes",
    "read_csv",
    "run",
]


# Hidden from type checkers, which would take any name for one that exists.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name not in _PUBLIC:
            raise AttributeError(f"module 'memprobe' has no attribute {name!r}")
        from importlib import import_module

        module, attribute = _PUBLIC[name]
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `probes` the function: importing the package of that name would hide it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
