"""Where a search starts, and the time that is left; what a pass does with both is in test_run_compression."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from memprobe.scoring import chain
from memprobe.scoring.chain import PreviousCheckpoint, SearchClock, name_of, start_of
from memprobe.tables.requests import Search, Unit
from memprobe.tables.sealed import seal, unseal
from memprobe.tables.spans import SPANS
from memprobe.tables.store import RunStore

BEFORE = PreviousCheckpoint("c0", 40)
TARGET, PROMPT = np.array([5, 6, 7]), np.array([9, 8])


@pytest.fixture
def store(tmp_path) -> RunStore:
    made = RunStore(tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def unit(ask) -> Unit:
    return Unit(ask("a", 0, 0, 3, Search().key), (), Search())


def write(store: RunStore, unit: Unit, sealed: bytes | None) -> None:
    types = {name: column.dtype for name, column in SPANS.columns.items()}
    row = dict.fromkeys(types) | unit.requests.row(0, named=True)
    row |= {"content_hash": "h", "found": {"prompt_sealed": sealed}}
    store.write_unit("c0", "u", pl.DataFrame([row], schema=types), {})


def test_a_search_starts_from_the_prompt_of_the_checkpoint_before(store, unit) -> None:
    write(store, unit, seal(PROMPT, TARGET, name_of("c0", "u")))
    warm = start_of(store, BEFORE, "u", unit, gone=False).warm
    assert (unseal(warm.sealed, TARGET, warm.name).tolist(), warm.step) == (PROMPT.tolist(), 40)


def test_where_that_found_nothing_it_starts_from_none(store, unit) -> None:
    write(store, unit, None)
    assert start_of(store, BEFORE, "u", unit, gone=False).warm is None


def test_it_waits_for_the_checkpoint_before_unless_that_is_gone(store, unit) -> None:
    assert start_of(store, BEFORE, "u", unit, gone=False) is None
    assert start_of(store, BEFORE, "u", unit, gone=True).warm is None
    # What it left before it failed is used.
    write(store, unit, seal(PROMPT, TARGET, name_of("c0", "u")))
    assert start_of(store, BEFORE, "u", unit, gone=True).warm is not None


@pytest.mark.parametrize("change", ["first", "cold", "no search"])
def test_nothing_is_waited_for_where_nothing_can_come(store, unit, change) -> None:
    cold = Unit(unit.requests, (), Search(warm=False) if change == "cold" else unit.search)
    work = Unit(unit.requests, ()) if change == "no search" else cold
    before = None if change == "first" else BEFORE
    assert start_of(store, before, "u", work, gone=False).warm is None


def test_an_unreadable_unit_is_set_aside_and_waited_for(store, unit) -> None:
    store.unit_file("c0", "u").write_bytes(b"no Parquet")
    assert start_of(store, BEFORE, "u", unit, gone=False) is None
    assert not store.has_unit("c0", "u")


def test_the_time_left_is_what_searches_took_so_far(monkeypatch) -> None:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(chain.time, "monotonic", lambda: now.s)
    progress = SimpleNamespace(
        n_tokens=5, best_loss_nats=1.0, n_matches=0, best_tokens=None, evaluations_used=3, budget=9
    )
    pace = SearchClock()
    pace.begin(4)
    now.s += 7
    assert pace.step(1, 4, progress).left_s is None
    now.s += 3
    pace.end()
    pace.begin(3)
    now.s += 4
    # One took 10 s; this one is 4 s old, and two more follow it: 6 + 2 * 10.
    assert pace.step(2, 4, progress).left_s == 26
    now.s += 16
    # One that takes longer than the others may end any moment.
    assert pace.step(2, 4, progress).left_s == 20
