"""Settings: every impossible value is named, saved steps are even."""

import pytest

from memprobe.errors import InputError
from memprobe.lab import TrainSettings


def test_saved_steps_are_even_with_the_untrained_model_first() -> None:
    assert TrainSettings(updates=10, checkpoints=4).saved_steps() == (0, 2, 5, 8, 10)
    assert TrainSettings(updates=3, checkpoints=3).saved_steps() == (0, 1, 2, 3)


def test_all_impossible_values_are_listed_at_once() -> None:
    with pytest.raises(InputError) as caught:
        TrainSettings(hidden=0, updates=-1, learning_rate=0.0, vocabulary=256, seed=-1, context_tokens=1)
    assert [problem.what for problem in caught.value.problems] == [
        "hidden is 0",
        "context_tokens is 1",
        "updates is -1",
        "learning_rate is 0.0",
        "vocabulary is 256",
        "seed is -1",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 30, "heads": 4}, "hidden 30 cannot be cut into 4 heads"),
        # 12 / 4 = 3: rotary embeddings turn pairs, so an odd width cannot be used.
        ({"hidden": 12, "heads": 4}, "hidden 12 cannot be cut into 4 heads of even width"),
        ({"updates": 5, "checkpoints": 6}, "6 checkpoints asked for in 5 updates"),
        ({"updates": 9, "sort_questions": 8, "context_tokens": 256}, "8 sort questions in 9 updates"),
        (
            {"sort_questions": 560, "context_tokens": 255},
            "context_tokens is 255, sort questions take up to 256",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainSettings(**settings)


def test_questions_are_spread_evenly_over_the_updates() -> None:
    settings = TrainSettings(updates=100, sort_questions=1250, context_tokens=256)
    assert settings.questions_per_update == 12
    assert TrainSettings(updates=100).questions_per_update == 0
