"""`__all__` is what can be imported, lazily, and each name is the object that it stands for."""

import importlib
import subprocess
import sys

import pytest

import memprobe


def test_all_names_are_importable_and_are_what_they_say() -> None:
    for name in memprobe.__all__:
        assert getattr(memprobe, name) is not None
    assert len(set(memprobe.__all__)) == len(memprobe.__all__)


@pytest.mark.parametrize("name", [name for name in memprobe.__all__ if name != "__version__"])
def test_a_public_name_is_the_object_of_its_module(name) -> None:
    module, attribute = memprobe._PUBLIC[name]
    assert getattr(memprobe, name) is getattr(importlib.import_module(module), attribute)


def test_nothing_lazy_is_missing_from_all() -> None:
    assert set(memprobe.__all__) == {*memprobe._PUBLIC, "__version__"}
    assert set(memprobe.__all__) <= set(dir(memprobe))


@pytest.mark.parametrize("name", ["run", "open_run", "Run", "gate", "load_suite", "probes", "MemprobeError"])
def test_the_contracts_names_are_public(name) -> None:
    assert name in memprobe.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'memprobe' has no attribute 'rum'"):
        memprobe.rum  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import memprobe.pipeline.api",
        "import memprobe.probes",
        "from memprobe.probes.discovery import find",
        "memprobe.open_run, memprobe.load_suite",
        "memprobe.load_suite('quickstart')",
    ],
)
def test_run_and_probes_stay_functions_whatever_was_imported_before(code) -> None:
    """Both are also names of modules, and importing a module binds its name in the package."""
    script = f"import memprobe\n{code}\nprint(list(memprobe.probes()), memprobe.run.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "run"
    assert "recall" in done.stdout


def test_the_version_is_a_version() -> None:
    major, minor, *_ = memprobe.__version__.split(".")
    assert (major + minor).isdigit()
