"""`memprobe probes`: what ships, and what each probe says of itself."""

import json

import pytest

from memprobe.pipeline.suite import shipped_suites
from memprobe.probes.discovery import discover


def test_every_probe_and_suite_is_listed_with_its_source(cli):
    answer = cli("probes", "ls")
    assert answer.code == 0
    assert answer.err == ""
    for name in (*discover(), *shipped_suites()):
        assert name in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


def test_the_list_as_json_is_one_document(cli):
    document = json.loads(cli("probes", "ls", "--json").out)
    assert [each["name"] for each in document["probes"]] == list(discover())
    assert [each["name"] for each in document["suites"]] == list(shipped_suites())
    # The paper's own: 50 + 50 tokens, top-40, a million samples.
    (hayes,) = [each for each in document["suites"] if each["name"] == "hayes2024"]
    (probe,) = hayes["probes"]
    assert (probe["prefix_tokens"], probe["suffix_tokens"], probe["n"][-1]) == (50, 50, 1_000_000)


@pytest.mark.parametrize("name", list(discover()))
def test_a_probe_is_described_with_all_its_options_metrics_and_columns(name, cli):
    probe = discover()[name]
    answer = cli("probes", "describe", name)
    assert answer.code == 0
    assert answer.out.startswith(f"{name} v{probe.version}: ")
    for word in (*probe.options(), *(metric.name for metric in probe.all_metrics), *probe.table.columns):
        assert word in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    document = json.loads(cli("probes", "describe", name, "--json").out)
    assert document["options"].keys() == probe.options().keys()
    assert [each["name"] for each in document["metrics"]] == [metric.name for metric in probe.all_metrics]


def test_defaults_are_shown_as_a_suite_takes_them(cli):
    out = " ".join(cli("probes", "describe", "recall").out.split())
    assert "generate false" in out
    assert 'align "start"' in out
    out = cli("probes", "describe", "extraction").out
    # Folded to its column: the line of the option, and the next.
    (at,) = [at for at, line in enumerate(out.splitlines()) if line.startswith("schemes")]
    first, second = (line[15:46].strip() for line in out.splitlines()[at : at + 2])
    assert f"{first} {second}".startswith("[{ temperature = 1.0, top_k = 40 }, { temperature = 1.0")


def test_options_are_explained(cli):
    out = " ".join(cli("probes", "describe", "recall").out.split())
    assert "generate false Generate every suffix as well, for `gen_match_frac` and ROUGE." in out
    document = json.loads(cli("probes", "describe", "recall", "--json").out)
    assert document["option_meanings"].keys() == document["options"].keys()
    assert document["option_meanings"]["suffix_tokens"] == "Tokens to be recalled; left out: all that follow."


@pytest.mark.parametrize("name", list(shipped_suites()))
def test_a_suite_is_described_by_its_file(name, cli):
    answer = cli("probes", "describe", name)
    lines = shipped_suites()[name].read_text().split()
    assert answer.out.split() == lines
    assert json.loads(cli("probes", "describe", name, "--json").out)["name"] == name


def test_an_unknown_name_suggests_the_nearest(cli):
    answer = cli("probes", "describe", "hayes")
    assert answer.code == 2
    assert "unknown probe or suite `hayes`, did you mean `hayes2024`?" in answer.err
