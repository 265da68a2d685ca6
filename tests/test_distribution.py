"""The distribution is `memprobe-lm`: no hint, template or page tells anybody to install `memprobe`.

On the package index `memprobe` is another company's program, which a wrong hint would run.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from memprobe.bench import doctor
from memprobe.errors import DISTRIBUTION, install_command

ROOT = Path(__file__).parents[1]
SCANNED = ("memprobe", "data", "probes", "docs", "findings", "reports", ".ci", ".github")
PAGES = ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "constraints.txt", "tests/README.md")
TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".txt", ".html", ".cfg", ""}
# What comes before the name where something is installed or asked for, and then the name without `-lm`.
_INSTALLER = r"\b(?:pipx?|uvx?|conda|poetry|pdm)\b[^\n|]{0,60}?[ \"'(]memprobe(?=$|[\s\"'`)\[=<>~!;,])"
_LOOKED_UP = r"\b(?:requires|distribution|version|metadata)\([\"']memprobe[\"']"
_ALONE = re.compile(f"{_INSTALLER}|{_LOOKED_UP}", re.MULTILINE)
_EXTRA = re.compile(r"\bmemprobe\[[a-z]")


def hints(text: str) -> list[str]:
    """Return the places that name the distribution `memprobe` alone."""
    return [match[0] for form in (_ALONE, _EXTRA) for match in form.finditer(text)]


@pytest.mark.parametrize(
    "text",
    [
        "run: pip install memprobe",
        "pip install -U memprobe\n",
        "pip install 'memprobe[lora]'",
        "uv pip install memprobe==0.1",
        "uvx memprobe",
        "pipx install memprobe",
        'metadata.requires("memprobe")',
        'importlib.metadata.version("memprobe")',
        "the extra memprobe[lora]",
    ],
)
def test_a_hint_that_names_somebody_else_s_program_is_found(text):
    assert hints(text)


@pytest.mark.parametrize(
    "text",
    ["pip install memprobe-lm", "pip install 'memprobe-lm[lora]'", "pip install torch; then memprobe-lm"],
)
def test_a_hint_that_names_ours_is_not(text):
    assert hints(text) == []


def test_nothing_that_ships_or_explains_names_it_alone():
    files = [ROOT / name for name in PAGES if (ROOT / name).is_file()]
    for folder in SCANNED:
        files += [
            each for each in sorted((ROOT / folder).rglob("*")) if each.is_file() and each.suffix in TEXTS
        ]
    assert len(files) > 200
    found = {str(file.relative_to(ROOT)): hints(file.read_text(encoding="utf-8")) for file in files}
    assert {name: each for name, each in found.items() if each} == {}


def test_the_project_is_called_as_the_hints_say():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION == "memprobe-lm"
    assert project["scripts"] == {"memprobe": "memprobe.cli:main"}
    assert install_command("lora", upgrade=True) == "pip install -U 'memprobe-lm[lora]'"
    assert install_command() == "pip install memprobe-lm"


def test_doctor_reads_what_that_distribution_asks_for(monkeypatch):
    asked = []
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked.append(name) or ["polars>=2.0"])
    assert [each.name for each in doctor._packages()] == ["polars"]
    assert asked == [DISTRIBUTION]


@pytest.fixture
def install(tmp_path):
    """Return a caller of the workflow's install step, in its own folder and with a pip that only tells."""
    workflow = yaml.safe_load((ROOT / "data/templates/ci/workflow.yml").read_text())
    (job,) = workflow["jobs"].values()
    (step,) = [each for each in job["steps"] if each.get("name") == "Install"]
    assert job["env"]["INSTALL_FROM"] == ""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "python"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    fake.chmod(0o755)

    def call(source):
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "INSTALL_FROM": source}
        # As GitHub calls it.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        asked = tmp_path / "asked"
        lines = asked.read_text().splitlines() if asked.exists() else []
        return done.returncode, done.stdout, lines

    return call


@pytest.mark.parametrize("source", ["", "memprobe", "memprobe==1.0", "memprobe-lm", "nowhere.whl"])
def test_the_ci_template_stops_while_its_source_is_not_filled_in(install, source):
    code, out, asked = install(source)
    assert (code, asked) == (2, [])
    assert out.startswith(f"::error::INSTALL_FROM is '{source}', no checkout, wheel or address")


@pytest.mark.parametrize("source", ["git+https://example.org/a/b@c", "memprobe", "my wheel.whl"])
def test_the_ci_template_installs_from_an_address_or_a_path(install, source, tmp_path):
    if "://" not in source:
        (tmp_path / source).mkdir()
    code, _, asked = install(source)
    expected = source if "://" in source else str(tmp_path.resolve() / source)
    assert (code, asked) == (0, [f"-m pip install {expected}", "-m pip show --quiet memprobe-lm"])
