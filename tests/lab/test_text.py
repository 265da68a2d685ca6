"""Windows of the user's text: exact, disjoint, in turn from each file, and enough of them."""

import pytest

from memprobe.errors import InputError
from memprobe.lab import TrainSettings
from memprobe.lab.corpus import LabItem, demo_corpus, tokenizer_texts
from memprobe.lab.text import Cuts, cut_windows, plan_text, read_texts, text_sequences
from memprobe.lab.tokenizer import train_tokenizer

TEXT = " ".join(item.text for item in demo_corpus("quick", 1))
# 160 sequences; 5 passes.
SETTINGS = TrainSettings(context_tokens=16, updates=40, checkpoints=2, batch_sequences=4, passes=5)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(tokenizer_texts(0, n_texts=60), 400)


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_window_is_a_stretch_of_the_text_and_tokenises_to_the_context(tokenizer) -> None:
    text = "Żółta — 12 łódź! \n\n" + TEXT[:5000]
    windows = list(cut_windows("doc", text, tokenizer, 16, Cuts()))
    assert len(windows) > 50
    for window, following in zip(windows, [*windows[1:], None], strict=True):
        stop_char = window.start_char + len(window.text)
        assert text[window.start_char : stop_char] == window.text
        assert len(ids_of(tokenizer, window.text)) == 16
        assert following is None or following.start_char >= stop_char


def test_a_cut_inside_a_character_is_rejected_and_counted(tokenizer) -> None:
    # Each dash is three bytes and no merge is known: a window of four tokens ends inside the second.
    cuts = Cuts()
    assert ids_of(tokenizer, "—") == ids_of(tokenizer, "——")[:3]
    assert list(cut_windows("doc", "————", tokenizer, 4, cuts)) == []
    assert cuts.n_rejected == 9
    assert [w.text for w in cut_windows("doc", "————", tokenizer, 6, Cuts())] == ["——", "——"]


def test_the_amount_of_text_follows_the_documented_rule(tokenizer) -> None:
    canary = LabItem("canary-0000", "canary", "x 1", 7, prefix_chars=2)
    plan = plan_text({"a.txt": TEXT, "b.txt": TEXT[9000:]}, [canary], tokenizer, SETTINGS, 3)
    trained = [item for item in plan.items if item.group == "text"]
    controls = [item for item in plan.items if item.group == "control"]
    # (160 - 7) // 5 = 30 windows, 153 = 30 * 5 + 3; (30 + 3) / 4 -> 9 controls.
    assert [item.n_exposures for item in trained] == [6] * 3 + [5] * 27
    assert (len(controls), len(plan.spares), len(plan.left_out)) == (9, 3, 3)
    assert {item.doc_id for item in trained} == {"a.txt", "b.txt"}
    assert max(int(str(item.carried["start_char"])) for item in plan.items[1:]) < 2500


def test_no_window_has_two_roles_and_left_out_ones_are_trained_on(tokenizer) -> None:
    # The second file repeats the first, so each of its windows would be a control that was seen.
    plan = plan_text({"a.txt": TEXT, "b.txt": TEXT}, [], tokenizer, SETTINGS, 4)
    texts = [item.text for item in (*plan.items, *plan.spares)]
    assert len(set(texts)) == len(texts)
    assert plan.cuts.n_repeated >= len(texts) - 2
    assert set(plan.left_out) <= {item.item_id for item in plan.items if item.group == "text"}
    assert len(set(plan.left_out)) == 4


def test_controls_spares_and_left_out_windows_are_drawn_from_all_over_the_texts(tokenizer) -> None:
    """Else they would be other text than the windows trained on, and no comparison would be fair."""
    settings = TrainSettings(context_tokens=16, updates=100, checkpoints=2, batch_sequences=4, passes=1)
    plan = plan_text({"a.txt": TEXT[:20000], "b.txt": TEXT[20000:]}, [], tokenizer, settings, 100)
    left_out = set(plan.left_out)
    roles = {
        "trained": [item for item in plan.items if item.n_exposures and item.item_id not in left_out],
        "control": [item for item in plan.items if not item.n_exposures],
        "spare": plan.spares,
        "left out": [item for item in plan.items if item.item_id in left_out],
    }
    # Items are numbered in the order of the texts, so places are 0 to n - 1, their mean (n - 1) / 2.
    places = {role: [int(item.item_id[-5:]) for item in items] for role, items in roles.items()}
    n = sum(map(len, places.values()))
    assert sorted(place for each in places.values() for place in each) == list(range(n))
    for role, each in places.items():
        # The sd of one uniform place is n / sqrt(12); four standard errors of the mean.
        assert abs(sum(each) / len(each) - (n - 1) / 2) < 4 * n / (12 * len(each)) ** 0.5, role
        in_a = sum(item.doc_id == "a.txt" for item in roles[role]) / len(each)
        assert 0.3 < in_a < 0.7, role


def test_little_text_is_seen_more_often(tokenizer) -> None:
    plan = plan_text({"a.txt": TEXT[:500]}, [], tokenizer, SETTINGS, 0)
    n_exposures = [item.n_exposures for item in plan.items]
    assert sum(n_exposures) == 160
    assert 0 < n_exposures.count(0) < len(n_exposures) / 3
    assert max(n_exposures) > 10


def test_a_text_too_short_for_a_window_is_named(tokenizer) -> None:
    with pytest.raises(InputError, match=r"too short for one window of 16 tokens\n  where: b.txt"):
        plan_text({"a.txt": TEXT, "b.txt": "A bell."}, [], tokenizer, SETTINGS, 0)


def test_too_few_windows_are_counted_by_role(tokenizer) -> None:
    with pytest.raises(InputError, match=r"hold \d+ windows of 16 tokens: 9 held out, 9 spare, \d+ left"):
        plan_text({"a.txt": TEXT[:700]}, [], tokenizer, SETTINGS, 9)


def test_canaries_that_leave_no_room_are_refused_with_the_numbers() -> None:
    canary = LabItem("canary-0000", "canary", "x 1", 156, prefix_chars=2)
    assert text_sequences([], SETTINGS, 0) == 160
    with pytest.raises(
        InputError, match=r"40 updates of 4 hold 160 sequences; canaries need 156, 1 window .* 5"
    ):
        text_sequences([canary], SETTINGS, 0)


def test_texts_are_read_without_their_byte_order_mark(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfA bell.")
    assert read_texts([tmp_path / "a.txt"]) == {"a.txt": "A bell."}


def test_all_unreadable_texts_are_named_at_once(tmp_path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "good.txt").write_text("A bell.")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "good.txt").write_text("Another bell.")
    names = ["latin.txt", "missing.txt", "empty.txt", "good.txt", "sub/good.txt"]
    with pytest.raises(InputError) as caught:
        read_texts([tmp_path / name for name in names])
    whats = [problem.what for problem in caught.value.problems]
    assert whats == [
        "not UTF-8: byte 3 is 0xe9",
        "cannot read the text: No such file or directory",
        "the text is empty",
        "two text files are named good.txt",
    ]
    with pytest.raises(InputError, match="no text file was given"):
        read_texts([])
