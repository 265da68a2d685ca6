"""Make items from the user's texts and canaries: windows to train on and windows held out.

How much text is used: the number of windows trained on is the number of training sequences left over by
the canaries, divided by `passes`. One more for every four is held out as a control, and one spare takes the
place of each left-out item in the twin. Windows are taken in turn from the start of each file; the seed
decides which of them has which role. With too little text there are fewer windows, each seen more often.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memprobe.errors import InputError, Problem
from memprobe.lab.corpus import LabItem
from memprobe.lab.settings import TrainSettings
from memprobe.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SELECTION_STREAM = 3
# One control for four trained windows: a fifth of the text is held out.
TRAINED_PER_CONTROL = 4


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text with the same tokens alone as inside the text; `start_char` counts from 0."""

    doc_id: str
    start_char: int
    text: str


@dataclass(slots=True)
class Cuts:
    """Counts of rejected cuts.

    Attributes:
        n_rejected: Cuts whose tokens differ when tokenised alone; the next cut starts one token later.
        n_repeated: Windows dropped because they have no words, or words that were taken before.
    """

    n_rejected: int = 0
    n_repeated: int = 0


@dataclass(frozen=True, slots=True)
class TextPlan:
    """The windows that are trained on, and the others.

    Attributes:
        items: Canaries, windows and controls.
        spares: Windows that the main sequence never sees and that are in the twin for the
            left-out items, in the same order; they are not items.
        left_out: Ids of items that the twin is not trained on.
        cuts: Counts of rejected cuts.
    """

    items: list[LabItem]
    spares: list[LabItem]
    left_out: list[str]
    cuts: Cuts


def read_texts(paths: Sequence[Path]) -> dict[str, str]:
    """Read the text files; a byte-order mark is dropped.

    Returns:
        File name to text.

    Raises:
        InputError: A file is missing, not UTF-8 or empty, or two have one name; all are listed.
    """
    texts: dict[str, str] = {}
    problems = [] if paths else [Problem("no text file was given", fix="give at least one UTF-8 file")]
    for path in paths:
        if path.name in texts:
            problems.append(
                Problem(f"two text files are named {path.name}", str(path), "rename one: names become doc_id")
            )
            continue
        try:
            texts[path.name] = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            problems.append(Problem(f"cannot read the text: {error.strerror}", str(path)))
        except UnicodeDecodeError as error:
            problems.append(
                Problem(f"not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}", str(path))
            )
        else:
            if not texts[path.name].strip():
                problems.append(Problem("the text is empty", str(path), "leave the file out"))
    if problems:
        raise InputError(problems)
    return texts


def plan_text(
    texts: Mapping[str, str],
    canaries: Sequence[LabItem],
    tokenizer: "PreTrainedTokenizerFast",
    settings: TrainSettings,
    leave_out: int,
) -> TextPlan:
    """Cut windows and decide which are trained on, held out, and left out of the twin.

    Raises:
        InputError: A text is too short for one window, the canaries do not fit, or there are too
            few windows.
    """
    n_text = text_sequences(canaries, settings, leave_out)
    n_trained = n_text // settings.passes
    cuts = Cuts()
    windows = _take(texts, tokenizer, settings.context_tokens, _n_windows(n_trained, leave_out), cuts)
    n_control = _n_controls(len(windows), leave_out)
    n_trained = len(windows) - n_control - leave_out
    if n_trained <= leave_out:
        raise InputError(
            f"the texts hold {counted(len(windows), 'window')} of {settings.context_tokens} tokens: "
            f"{n_control} held out, {leave_out} spare, {max(n_trained, 0)} left to train on",
            fix="give more text, shorter windows or a smaller number to leave out",
        )
    rng = np.random.default_rng([settings.seed, _SELECTION_STREAM])
    drawn = rng.permutation(len(windows))
    controls, spares = set(drawn[:n_control]), drawn[n_control : n_control + leave_out]
    trained = sorted(int(i) for i in drawn[n_control + leave_out :])
    per_window, n_with_one_more = divmod(n_text, n_trained)
    n_exposures = dict.fromkeys(range(len(windows)), 0)
    n_exposures |= {i: per_window + (place < n_with_one_more) for place, i in enumerate(trained)}
    items = {i: _window_item(window, i, n_exposures[i]) for i, window in enumerate(windows)}
    left_out = rng.choice(trained, size=leave_out, replace=False)
    return TextPlan(
        items=[*canaries, *(items[i] for i in trained), *(items[i] for i in sorted(controls))],
        spares=[items[i] for i in spares],
        left_out=[items[i].item_id for i in left_out],
        cuts=cuts,
    )


def text_sequences(canaries: Sequence[LabItem], settings: TrainSettings, leave_out: int) -> int:
    """Count the training sequences that the canaries leave to the text.

    Raises:
        InputError: They leave no room for one window more than is left out.
    """
    n_all = settings.updates * settings.batch_sequences
    n_canary = sum(item.n_exposures for item in canaries)
    n_needed = (leave_out + 1) * settings.passes
    if n_all - n_canary < n_needed:
        raise InputError(
            f"{counted(settings.updates, 'update')} of {settings.batch_sequences} hold "
            f"{counted(n_all, 'sequence')}; canaries need {n_canary}, "
            f"{counted(leave_out + 1, 'window')} seen {counted(settings.passes, 'time')} need {n_needed}",
            fix="give more updates, fewer exposures, fewer passes or a smaller number to leave out",
        )
    return n_all - n_canary


def _n_windows(n_trained: int, leave_out: int) -> int:
    return n_trained + leave_out + max(leave_out, -(-(n_trained + leave_out) // TRAINED_PER_CONTROL))


def _n_controls(n_windows: int, leave_out: int) -> int:
    return max(leave_out, -(-n_windows // (TRAINED_PER_CONTROL + 1)))


def _window_item(window: Window, number: int, n_exposures: int) -> LabItem:
    group = "text" if n_exposures else "control"
    return LabItem(
        item_id=f"{group}-{number:05d}",
        group=group,
        text=window.text,
        n_exposures=n_exposures,
        ends=False,
        doc_id=window.doc_id,
        carried={"start_char": window.start_char},
    )


def _take(
    texts: Mapping[str, str],
    tokenizer: "PreTrainedTokenizerFast",
    context_tokens: int,
    n_wanted: int,
    cuts: Cuts,
) -> list[Window]:
    """Take up to `n_wanted` different windows in turn from the start of each text."""
    sources = {name: cut_windows(name, text, tokenizer, context_tokens, cuts) for name, text in texts.items()}
    first = {name: next(source, None) for name, source in sources.items()}
    short = [name for name, window in first.items() if window is None]
    if short:
        raise InputError(
            [
                Problem(
                    f"too short for one window of {context_tokens} tokens", name, "give more or leave it out"
                )
                for name in short
            ]
        )
    taken: dict[str, Window] = {}
    for window in _in_turn([window for window in first.values() if window], list(sources.values())):
        if len(taken) == n_wanted:
            break
        if window.text in taken or not window.text.strip():
            cuts.n_repeated += 1
        else:
            taken[window.text] = window
    return list(taken.values())


def _in_turn(first: Sequence[Window], sources: Sequence[Iterator[Window]]) -> Iterator[Window]:
    yield from first
    waiting = list(sources)
    while waiting:
        still = []
        for source in waiting:
            window = next(source, None)
            if window is not None:
                still.append(source)
                yield window
        waiting = still


def cut_windows(
    doc_id: str, text: str, tokenizer: "PreTrainedTokenizerFast", context_tokens: int, cuts: Cuts
) -> Iterator[Window]:
    """Cut a text into windows, one behind the other, that tokenise alone as they do inside.

    A cut inside a word or a character may not; then the window starts one token later.

    Args:
        doc_id: Name of the text.
        text: The text.
        tokenizer: One that gives character offsets.
        context_tokens: Tokens of a window.
        cuts: Called with each rejected cut.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    start = 0
    while start + context_tokens <= len(ids):
        stop = start + context_tokens
        piece = text[offsets[start][0] : offsets[stop - 1][1]]
        if tokenizer(piece, add_special_tokens=False)["input_ids"] == ids[start:stop]:
            yield Window(doc_id, offsets[start][0], piece)
            start = stop
        else:
            cuts.n_rejected += 1
            start += 1
