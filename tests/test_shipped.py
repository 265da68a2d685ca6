"""What ships: suites with their papers' own parameters, small inputs, and the sample run."""

import hashlib
import tomllib
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

import memprobe
from memprobe import shipped
from memprobe.items import read_items
from memprobe.pipeline.again import measure_again
from memprobe.pipeline.suite import load_suite, shipped_suites
from memprobe.probes.discovery import discover
from memprobe.shipped import shipped_folder
from memprobe.tables.requests import Scheme
from memprobe.tables.store import RunStore

PAPERS = {
    "schwarzschild2024": "arXiv:2404.15146",
    "pink2024": "arXiv:2410.08133",
    "carlini2022": "arXiv:2202.07646",
    "hayes2024": "arXiv:2410.19482",
    "orhan2023": "arXiv:2303.17557",
}


def entries(name: str) -> list[tuple[str, object]]:
    return [(entry.probe.name, entry.settings) for entry in load_suite(name).entries]


def test_every_suite_of_the_issue_ships() -> None:
    assert {*PAPERS, "quickstart"} <= set(shipped_suites())


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_loads_under_its_own_name(name) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.title
    assert suite.source
    assert suite.entries


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_holds_no_run_table(name) -> None:
    assert set(tomllib.loads(shipped_suites()[name].read_text(encoding="utf-8"))) == {"suite", "probe"}


@pytest.mark.parametrize(("name", "source"), PAPERS.items())
def test_a_papers_suite_names_its_paper(name, source) -> None:
    assert load_suite(name).source == source


def test_carlini_asks_for_the_last_fifty_tokens_after_contexts_of_50_to_450() -> None:
    found = entries("carlini2022")
    assert {probe for probe, _ in found} == {"recall"}
    assert [settings.prefix_tokens for _, settings in found] == [50, 100, 150, 200, 250, 300, 350, 400, 450]
    assert {settings.suffix_tokens for _, settings in found} == {50}
    assert {settings.align for _, settings in found} == {"end"}


def test_hayes_samples_with_top_40_fifty_after_fifty() -> None:
    ((probe, settings),) = entries("hayes2024")
    assert probe == "extraction"
    assert (settings.prefix_tokens, settings.suffix_tokens) == (50, 50)
    assert settings.schemes == (Scheme(temperature=1.0, top_k=40),)
    assert settings.p == (0.1, 0.5, 0.9, 0.999)
    assert settings.n[:5] == (1, 10, 100, 1000, 10_000)
    assert list(settings.n) == sorted(settings.n)


def test_orhan_recognises_and_recalls_the_second_half_and_follows_both_over_time() -> None:
    (recognition, _), (recall, settings), (retention, over_time) = entries("orhan2023")
    assert (recognition, recall, retention) == ("recognition", "recall", "retention")
    assert (over_time.prefix_tokens, over_time.suffix_tokens, over_time.align) == (None, None, "start")
    assert (settings.prefix_tokens, settings.suffix_tokens, settings.align) == (None, None, "start")
    assert settings.generate


def test_quickstart_holds_every_probe_of_single_checkpoints_with_its_defaults() -> None:
    found = dict(entries("quickstart"))
    single = {n: each for n, each in discover().items() if each.over_time is None and not each.searches}
    # Trials are items of their own, which no other probe asks for.
    quick = {n for n, each in single.items() if "segment_1" not in each.needs}
    assert set(found) == quick
    assert all(settings == discover()[probe].settings() for probe, settings in found.items())


def test_a_damaged_installation_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "memprobe" / "shipped.py"))
    with pytest.raises(FileNotFoundError, match="memprobe's own folder `probes` is missing"):
        shipped_folder("probes")


def test_the_wheels_folder_goes_before_the_checkouts(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "memprobe" / "shipped.py"))
    (tmp_path / "data").mkdir()
    assert shipped_folder("data") == tmp_path / "data"
    (tmp_path / "memprobe" / "_shipped" / "data").mkdir(parents=True)
    assert shipped_folder("data") == tmp_path / "memprobe" / "_shipped" / "data"


def test_the_small_inputs_are_what_their_readme_says() -> None:
    folder = shipped_folder("data")
    about = (folder / "README.md").read_text(encoding="utf-8")
    for file in folder.glob("*.jsonl"):
        assert f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`" in about
    items = read_items([str(folder / "example.jsonl")])
    assert items.table.height == 9
    assert {"text", "prefix", "suffix", "input_ids", "foil", "exposures", "first_step"} <= items.given


def test_the_sample_run_can_be_read() -> None:
    sample = Path(__file__).parents[1] / "reports" / "sample"
    run = memprobe.open_run(sample)
    assert run.finished
    assert set(run.table("recall")["group"]) == {"canary"}
    # Tables are always rebuilt from the units: what lies there must still be what the units give.
    assert_frame_equal(measure_again(RunStore(sample)).summary, run.summary)
