"""first_step against the definition: what a training loop that counts its updates would write down.

Rungs: hand values at the borders of batches; a slow loop over updates; the seeded draw; refusals.
"""

import numpy as np
import pytest

from memprobe.documents import Pieces, Sampling, Training, open_streams, sequence_items
from memprobe.errors import InputError, ItemError


@pytest.fixture
def stream(npy):
    """Ten sequences: number i holds the ids 10 i and 10 i + 1."""
    return open_streams([npy("s", [[10 * i, 10 * i + 1] for i in range(10)], "uint16")], Pieces())


def made(stream, batch_size, *, order=None, start_step=0, vocabulary=None, **sampling):
    order = None if order is None else np.asarray(order)
    training = Training(batch_size, start_step, order)
    return sequence_items(stream, training, Sampling(**sampling), vocabulary=vocabulary)


def test_first_step_changes_between_position_b_minus_1_and_b(stream) -> None:
    # Batches of 4: positions 0..3 are update 1, 4..7 update 2; 8 and 9 fill no batch.
    done = made(stream, 4)
    assert done.items["first_step"].to_list() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert done.items["batch_id"].to_list() == ["0"] * 4 + ["1"] * 4
    assert done.items["item_id"].to_list() == [f"s-{i}" for i in range(8)]
    assert done.items["input_ids"].to_list()[3:5] == [[30, 31], [40, 41]]
    assert done.notes == ("2 sequences at the end, no whole batch of 4, left out",)
    assert (done.n_sequences, done.n_batches) == (10, 2)


def test_a_batch_of_one_and_a_batch_of_all(stream) -> None:
    assert made(stream, 1).items["first_step"].to_list() == list(range(1, 11))
    whole = made(stream, 10)
    assert whole.items["first_step"].unique().to_list() == [1]
    assert whole.notes == ()


def test_a_later_start_shifts_every_step(stream) -> None:
    shifted = made(stream, 4, start_step=1000).items
    assert shifted["first_step"].to_list() == [1001] * 4 + [1002] * 4
    assert shifted["last_step"].equals(shifted["first_step"].alias("last_step"))


def slow(order: list[int], batch_size: int) -> dict[int, tuple[int, int, int]]:
    """Train: count updates, and write down when each sequence was first and last seen, and how often."""
    seen: dict[int, tuple[int, int, int]] = {}
    updates = 0
    while (updates + 1) * batch_size <= len(order):
        batch = order[updates * batch_size : (updates + 1) * batch_size]
        updates += 1
        for sequence in batch:
            first, _, times = seen.get(sequence, (updates, updates, 0))
            seen[sequence] = (first, updates, times + 1)
    return seen


@pytest.mark.parametrize(
    "order",
    [
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8],
        [*range(10), *range(9, -1, -1)],
        [0, 0, 0, 7],
        [2, 2, 2, 2, 2, 7],
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_an_order_equals_a_loop_that_trains(order, batch_size, stream) -> None:
    items = made(stream, batch_size, order=order).items
    found = {
        int(name.removeprefix("s-")): (first, last, times)
        for name, first, last, times in items.select(
            "item_id", "first_step", "last_step", "exposures"
        ).iter_rows()
    }
    assert found == slow(order, batch_size)
    for name, ids, position in items.select("item_id", "input_ids", "position").iter_rows():
        number = int(name.removeprefix("s-"))
        assert ids == [10 * number, 10 * number + 1]
        assert position == order.index(number)
    assert items["position"].is_sorted()


def test_a_sample_is_seeded_and_agrees_with_the_whole(stream) -> None:
    everything = made(stream, 2)
    drawn = made(stream, 2, n=4, seed=5)
    assert drawn.items.equals(made(stream, 2, n=4, seed=5).items)
    assert not drawn.items.equals(made(stream, 2, n=4, seed=6).items)
    assert drawn.items.equals(
        everything.items.filter(everything.items["item_id"].is_in(drawn.items["item_id"].to_list()))
    )
    assert drawn.items.height == 4


@pytest.mark.parametrize("order", [None, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]])
def test_so_many_of_each_batch(order, stream) -> None:
    items = made(stream, 5, order=order, per_batch=2).items
    assert items["first_step"].to_list() == [1, 1, 2, 2]
    assert items["item_id"].n_unique() == 4


def test_of_a_batch_that_repeats_all_only_new_sequences_are_taken(stream) -> None:
    # The second batch holds nothing that the first did not.
    items = made(stream, 2, order=[0, 1, 1, 0, 2, 3], per_batch=2).items
    assert items.select("item_id", "first_step", "exposures").rows() == [
        ("s-0", 1, 2),
        ("s-1", 1, 2),
        ("s-2", 3, 1),
        ("s-3", 3, 1),
    ]


def test_every_sequence_is_drawn_as_often_as_any_other(stream) -> None:
    counts = np.zeros(10)
    for seed in range(300):
        counts[[int(name[2:]) for name in made(stream, 5, per_batch=1, seed=seed).items["item_id"]]] += 1
    # 300 draws of 1 of 5: 60 each, standard deviation 7; five of them are never left by chance.
    assert abs(counts - 60).max() < 35


def test_ids_that_the_model_does_not_have_are_named(stream) -> None:
    assert made(stream, 5, vocabulary=92).items.height == 10
    with pytest.raises(ItemError) as caught:
        made(stream, 5, vocabulary=91)
    assert str(caught.value).splitlines()[0] == "sequence s-9 holds the id 91, the model's vocabulary has 91"
    with pytest.raises(ItemError, match="and 4 more like these"):
        made(stream, 5, vocabulary=11)


def test_padding_is_no_id(npy) -> None:
    stream = open_streams([npy("p", [[1, -100], [2, 3]])], Pieces())
    with pytest.raises(ItemError, match="sequence p-0 holds the id -100, below 0, as padding has"):
        made(stream, 1)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"batch_size": 11}, "10 sequences cannot fill a batch of 11"),
        ({"batch_size": 2, "order": [0, 10]}, "--order has numbers from 0 to 10, and the stream has 10"),
        ({"batch_size": 2, "order": [0, -1]}, "--order has numbers from -1 to 0"),
        ({"batch_size": 4, "n": 9}, "--n asks for 9 sequences, and there are 8 in whole batches"),
        ({"batch_size": 4, "per_batch": 5}, "--per-batch is 5, and a batch has 4 sequences"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"batch_size": 2, "start_step": -1}, "--start-step is -1"),
        ({"batch_size": 2, "n": 0}, "--n is 0"),
        ({"batch_size": 2, "n": 1, "per_batch": 1}, "exclude each other"),
    ],
)
def test_what_cannot_be_asked_says_why(asked, told, stream) -> None:
    with pytest.raises((InputError, ItemError), match=told):
        made(stream, **asked)


def test_all_of_a_very_long_stream_are_not_made_items_unasked(npy) -> None:
    stream = open_streams([npy("s", np.zeros(200_000), "uint8")], Pieces(1))
    with pytest.raises(InputError, match="the stream holds 200,000 sequences"):
        made(stream, 8)
    assert made(stream, 8, n=3).items.height == 3
