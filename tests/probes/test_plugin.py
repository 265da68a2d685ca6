"""A twelfth probe, in a package of its own, is served everywhere; one that cannot be used is named.

The probe is the one of docs/extending.md, installed beside memprobe as a user would install it: one module
and one entry point. Nothing in memprobe knows it.
"""

import json
import re
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def install(folder: Path, module: str, code: str, *, name: str = "first_token") -> str:
    """Write a package with one probe; returns what a process runs first so that Python finds it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    about = folder / f"{module}-0.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 0.3\n"
    )
    (about / "entry_points.txt").write_text(f"[memprobe.probes]\n{name} = {module}:PROBE\n")
    return f"sys.path.insert(0, {str(folder)!r})"


@pytest.fixture
def ask(forked, tmp_path):
    """Return a caller of the command line in a process that has the plugin."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)[:1]
    prelude = install(tmp_path / "site", "memprobe_first_token", code)

    def call(*args: object, code: int = 0) -> str:
        answer = forked(*args, prelude=prelude).answer()
        assert answer.code == code, answer.err
        return answer.out

    return call


def test_one_file_is_served_by_every_command(ask, tiny, tmp_path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    assert "first_token" in ask("probes", "ls")
    about = json.loads(ask("probes", "describe", "first_token", "--json"))
    assert about["options"] == {"prefix_tokens": None}
    assert about["option_meanings"]["prefix_tokens"].startswith("Tokens that condition")
    assert "first_token" in ask("data", "check", tiny.items, "-m", tiny.model, "-p", "first_token")
    for out in (run, again):
        ask("run", "-p", "first_token", "-m", tiny.model, "-d", tiny.items, "-o", out, "--threads", 1, "-q")
    shown = json.loads(ask("summary", run, "--json"))
    assert {row["metric"] for row in shown["summary"]} == {"first_hit_frac", "first_hit_excess_frac"}
    assert "first_hit_frac" in ask("summary", run)
    ask("report", run, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="probe-first_token"' in page
    assert "A first token is often easy to guess." in page
    ask("plot", run, "--kind", "first_token.first_hit_frac", "-o", tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text(encoding="utf-8")
    ask("export", run, "--table", "first_token", "--to", "csv", "-o", tmp_path / "table.csv", "--dictionary")
    assert pl.read_csv(tmp_path / "table.csv")["first_hit"].dtype == pl.Boolean
    compared = json.loads(ask("compare", run, again, "--json"))
    assert {row["probe"] for row in compared["differences"]} == {"first_token"}
    rules = tmp_path / "rules.toml"
    rule = ('id = "first"', 'probe = "first_token"', 'metric = "first_hit_frac"', 'where = { step = "last" }')
    rules.write_text("\n".join(["[[rule]]", *rule, "max = 0.9", ""]))
    ask("gate", run, "--rules", rules)


def test_the_manifest_names_the_package_of_a_plugin(ask, tiny, tmp_path) -> None:
    run = tmp_path / "run"
    probes = ("-p", "first_token", "-p", "recall")
    ask("run", *probes, "-m", tiny.model, "-d", tiny.items, "--steps", 20, "-o", run, "--threads", 1, "-q")
    described = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["probes"]
    assert described["first_token"]["package"] == "memprobe-first-token 0.3"
    assert "package" not in described["recall"]


def test_a_run_can_be_read_where_its_plugin_is_missing(ask, cli, tiny, tmp_path) -> None:
    run = tmp_path / "run"
    given = ("-m", tiny.model, "-d", tiny.items, "--steps", 20, "-o", run, "--threads", 1, "-q")
    ask("run", "-p", "first_token", *given)
    answer = cli("summary", run)
    assert answer.code == 0, answer.err
    assert "first_hit_frac" in answer.out
    assert cli("report", run, "-o", tmp_path / "report.html").code == 0
    assert cli("export", run, "--to", "csv", "-o", tmp_path / "table.csv").code == 0
    # Numbers of a probe that is not here cannot be made again.
    again = cli("run", "-p", "first_token", *given)
    assert again.code == 2
    assert "unknown probe `first_token`" in again.err


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module\n", "cannot be used (ModuleNotFoundError"),
        ("PROBE = 3\n", "is a int, not a Probe"),
        (
            "from dataclasses import replace\nfrom memprobe.probes.recall import PROBE\n"
            "PROBE = replace(PROBE, name='first_token', table=None)\n",
            "cannot be used (AttributeError",
        ),
        ("from memprobe.probes.recall import PROBE\n", "calls itself `recall`"),
        (
            "from dataclasses import replace\nfrom memprobe.probes.recall import PROBE\n"
            "PROBE = replace(PROBE, name='first_token')\n",
            "it writes tables of names that are taken: recall",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named_and_stops_nothing_else(
    forked, tiny, tmp_path, code, reason
) -> None:
    prelude = install(tmp_path / "site", "broken_plugin", code)
    given = ("-m", tiny.model, "-d", tiny.items, "--steps", 20, "-o", tmp_path / "run", "--threads", 1, "-q")
    answer = forked("run", "-p", "first_token", *given, prelude=prelude).answer()
    assert answer.code == 2
    assert "the probe `first_token` cannot be used" in answer.err
    assert reason in " ".join(answer.err.split())
    assert "broken-plugin 0.3" in answer.err
    listed = forked("probes", "ls", prelude=prelude).answer()
    assert listed.code == 0
    assert "recall" in listed.out
    assert "first_token" in listed.err
    assert forked("run", "-p", "recall", *given, prelude=prelude).answer().code == 0


def test_a_plugin_never_takes_the_name_of_a_probe_and_is_named(forked, tmp_path) -> None:
    code = (
        "from dataclasses import replace\nfrom memprobe.probes.recall import PROBE\n"
        "PROBE = replace(PROBE, title='Mine?')\n"
    )
    prelude = install(tmp_path / "site", "other_recall", code, name="recall")
    about = forked("probes", "describe", "recall", "--json", prelude=prelude).answer()
    assert json.loads(about.out)["title"] == "Does the model finish the text word for word?"
    listed = forked("probes", "ls", prelude=prelude).answer()
    assert "there is a probe `recall` already" in " ".join(listed.err.split())
    assert "other-recall 0.3" in listed.err


def test_a_name_that_two_packages_bring_is_neither_of_theirs(forked, tmp_path) -> None:
    code = (
        "from dataclasses import replace\nfrom memprobe.probes.recall import PROBE\n"
        "PROBE = replace(PROBE, name='first_token', table=replace(PROBE.table, name='first_token'))\n"
    )
    prelude = "; ".join(install(tmp_path / name, name, code) for name in ("one_plugin", "other_plugin"))
    answer = forked("probes", "describe", "first_token", prelude=prelude).answer()
    assert answer.code == 2
    told = " ".join(answer.err.split())
    assert "several packages bring a probe of this name" in told
    assert "one-plugin 0.3, other-plugin 0.3" in told
