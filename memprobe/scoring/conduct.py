"""Checks of what a loaded model's scores depend on, made once before anything is scored.

A score must depend only on the tokens before it: not on later tokens, other texts in the batch, earlier
calls, or the length of the call, except at the known borders (borders.py). Each check compares what the
scoring path computes for the same tokens in two calls.

Tolerances. Two calls of the same shape do the same operations on the same numbers. Their outputs may differ
only by rounding after a changed grouping of experts: by up to 64 units in the last place of the largest
value. Calls of different shapes sum in a different order: by up to 1e-4 of the largest value in float32. In
bfloat16 and float16, rounding changes the choices of routers and grows over layers, and cannot be told from
a weak dependence: what is not clearly equal is checked again on a copy in float32, if one fits in memory.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from memprobe.errors import CheckpointError
from memprobe.scoring.borders import borders_of, forget_longer_calls
from memprobe.scoring.outside import outside
from memprobe.scoring.passed import Passed, entry_of, recall, remember

if TYPE_CHECKING:
    from memprobe.scoring.load import LoadedModel

TOLERANCE_NATS = 1e-4
"""float32 rounds differently in matrices of another shape; a token seen or not seen changes far more."""

_LENGTH, _LEAST, _SHORT = 64, 34, 16
_CHANGED_FROM = 31
"""The last token of any block of 2, 4, 8, 16 or 32 tokens, which sees the others of its block."""

_SAME_SHAPE_ULPS = 64
_OTHER_SHAPE_SHARE = 1e-4
# In half precision: root mean square of the differences, as a share of that of the outputs. Up to 4 units in
# the last place it is rounding, of about one layer; above a quarter, rounding cannot be the cause.
_HALF_SURELY_ULPS, _HALF_SURELY_MOVED = 4, 0.25
_COPY_BYTES_MAX = 8e9

_CANNOT_FIX = "check that it is a language model of text, and that config.json belongs to its weights"

_UNSURE = (
    "in this precision rounding is too large to tell whether scores depend on later tokens or on the batch; "
    "the model is too large to be checked in float32"
)

Judged = Literal["same", "moved", "unsure", "unknown"]


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect that a check found.

    Attributes:
        what: A sentence that says what is wrong with the model.
        fix: What the user can do about it.
    """

    what: str
    fix: str


@dataclass(slots=True)
class _Found:
    """The findings of the checks so far.

    Attributes:
        defect: The first defect that is certain; None if there is none.
        unsure: Whether outputs moved in a way that may be rounding.
        unknown: Whether outputs were not finite, which scoring itself reports.
        dependent: Whether outputs depend on earlier tokens at all; with untrained weights they may not.
    """

    defect: Defect | None = None
    unsure: bool = False
    unknown: bool = False
    dependent: bool = False

    def note(self, judged: Judged, defect: Defect) -> None:
        """Record one comparison; only the first defect is kept."""
        self.unsure |= judged == "unsure"
        self.unknown |= judged == "unknown"
        if judged == "moved" and self.defect is None:
            self.defect = defect


def holds(gap_nats: float, dtype: str) -> bool:
    """Return whether ln p alone and in a batch agree: within a tolerance in float32, else always."""
    return dtype != "float32" or gap_nats <= TOLERANCE_NATS


# Configurations that passed, and whether they take the fast path, so that a sweep is checked only once.
_passed: dict[tuple[str, ...], bool] = {}


def settle(loaded: "LoadedModel", longest_tokens: int = 0, *, where: str = "", weights: str = "") -> None:
    """Choose the model's path, and refuse a model whose scores depend on more than the tokens before.

    Args:
        loaded: The model; its `fast`, `borders` and `settled` are set, and `notes` may be added.
        longest_tokens: Length of the longest sequence that will be read; 0 if unknown.
        where: Name of the checkpoint in errors.
        weights: Digest of the model's weights, by which the result of an earlier check is found; empty if
            unknown.

    Raises:
        CheckpointError: The scores depend on later tokens, other texts in the batch, earlier calls or the
            length of the call, or the model cannot be run at all.
    """
    forget_longer_calls(loaded.model)
    loaded.borders = borders_of(loaded.model.config.get_text_config())
    longest_tokens = _that_fit(loaded, longest_tokens)
    entry = entry_of(loaded, longest_tokens, weights)
    if (known := recall(entry)) is not None:
        loaded.vocabulary, loaded.fast = known.vocabulary, known.fast
        loaded.settled = True
        # Other checkpoints of the same configuration need no check either.
        _passed[_key(loaded, longest_tokens)] = known.fast
        return
    with outside("the model cannot read a text", where, fix=_CANNOT_FIX), torch.inference_mode():
        choose_path(loaded)
        if _settle(loaded, longest_tokens, where):
            remember(entry, Passed(loaded.fast, loaded.vocabulary))


def settle_again(loaded: "LoadedModel", longest_tokens: int = 0, *, where: str = "") -> None:
    """Check a model again after its weights were exchanged, unless an earlier check was conclusive.

    Raises:
        CheckpointError: As `settle`.
    """
    if not loaded.settled:
        with torch.inference_mode():
            _settle(loaded, _that_fit(loaded, longest_tokens), where)


def _that_fit(loaded: "LoadedModel", n_tokens: int) -> int:
    return min(n_tokens, loaded.context_tokens or n_tokens)


def choose_path(loaded: "LoadedModel") -> None:
    """Take the fast path if body and head give the model's own logits, bit for bit, on a small batch.

    Logit scaling, soft-capping or an unusual head make a difference to the logits; a model that reads its
    right padding changes its output for a sequence next to a longer one. Such models take their own path,
    with an attention mask.
    """
    model = loaded.model
    config = model.config.get_text_config()
    length = min(12, loaded.context_tokens or 12)
    short_length = max(1, min(5, length - 1))
    ids = _random_ids(int(config.vocab_size), (2, length), loaded.device)
    with torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits
        loaded.vocabulary = own.shape[-1]
        head = model.get_output_embeddings()
        body = model.base_model
        if body is model or head is None or not isinstance(head, nn.Linear):
            return
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state
        # A body that keeps its sums in float32 relies on the model to round them for the head.
        fits = hidden.shape[-1] == head.in_features and hidden.dtype == head.weight.dtype
        if not fits or not torch.equal(head(hidden), own):
            return
        short = body(input_ids=ids[:1, :short_length], use_cache=False).last_hidden_state
        tolerance = 64 * torch.finfo(hidden.dtype).eps * max(1.0, float(hidden.abs().max()))
        loaded.fast = float((hidden[:1, :short_length] - short).abs().max()) <= tolerance


def _settle(loaded: "LoadedModel", longest_tokens: int, where: str) -> bool:
    """Examine a model unless its configuration passed before; return whether this check surely passed."""
    key = _key(loaded, longest_tokens)
    if key in _passed:
        loaded.fast, loaded.settled = _passed[key], True
        return False
    fast = loaded.fast
    found = _examine(loaded, longest_tokens)
    half = next(loaded.model.parameters()).dtype != torch.float32
    if half and (found.unsure or found.defect is not None or loaded.fast != fast):
        found = _examine_in_float32(loaded, longest_tokens, fast=fast) or found
    if found.defect is not None:
        raise CheckpointError(found.defect.what, where=where, fix=found.defect.fix)
    if found.unsure:
        loaded.notes = (*loaded.notes, _UNSURE)
    loaded.settled = found.dependent and not found.unknown
    if loaded.settled and not found.unsure:
        _passed[key] = loaded.fast
        return True
    return False


def _key(loaded: "LoadedModel", longest_tokens: int) -> tuple[str, ...]:
    """Return the values that the outcome of the checks depends on, except the weights."""
    model = loaded.model
    settings = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    kind, dtype = type(model), str(next(model.parameters()).dtype)
    path = "fast" if loaded.fast else "own"
    return (
        kind.__module__,
        kind.__qualname__,
        repr(settings),
        dtype,
        str(loaded.device),
        path,
        str(longest_tokens),
    )


def _random_ids(vocabulary: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary, shape, generator=rng).to(device)


def _examine(loaded: "LoadedModel", longest_tokens: int) -> _Found:
    """Make all comparisons; a model that sees its padding on the fast path is examined on its own path."""
    found = _Found()
    limits = (_length(longest_tokens), loaded.context_tokens, loaded.borders.first)
    context = min(each for each in limits if each is not None)
    if context < 2:
        return found
    ids = _random_ids(int(loaded.model.config.get_text_config().vocab_size), (1, context), loaded.device)
    n = min(_SHORT, context - 1)
    read = _reader(loaded)
    short = read(ids[:, :n])
    neighbours = _compare(short, read(*_beside_longer(ids[:, :n], context))[1:, :n], same_shape=False)
    if loaded.fast and neighbours == "moved":
        loaded.fast = False
        return _examine(loaded, longest_tokens)
    whole = read(ids)
    longer = _longer(loaded, ids, whole[:, :n], longest_tokens)
    # Findings are noted in an order in which earlier ones explain later ones. The call with another last
    # token also follows longer calls: if nothing moved in it, the model sees neither earlier calls nor the
    # last token.
    other = _compare(short[:, :-1], read(_with_other_last(loaded, ids[:, :n]))[:, :-1], same_shape=True)
    if other != "same" or n < 2:
        found.note(_compare(short, read(ids[:, :n]), same_shape=True), _forgetful())
    found.dependent = _causal(loaded, read, ids, whole, found)
    found.note(other, _by_later(loaded))
    found.note(_compare(short, whole[:, :n], same_shape=False), _by_length(loaded))
    found.note(longer, _by_length(loaded))
    found.note(neighbours, _by_neighbours())
    return found


def _length(longest_tokens: int) -> int:
    """Return how many tokens are compared with and without a change; `_longer` checks longer calls."""
    if not longest_tokens or _LEAST <= longest_tokens <= _LENGTH:
        return longest_tokens or _LENGTH
    return _LEAST


def _reader(loaded: "LoadedModel") -> Callable[..., Tensor]:
    """Return a function that computes what scoring uses: hidden states on the fast path, else logits."""
    if loaded.fast:
        body = loaded.model.base_model
        # The head works on each position separately.
        return lambda ids, _=None: body(input_ids=ids, use_cache=False).last_hidden_state
    model = loaded.model

    def read(ids: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(ids) if mask is None else mask
        logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits

    return read


def _causal(
    loaded: "LoadedModel", read: Callable[..., Tensor], ids: Tensor, whole: Tensor, found: _Found
) -> bool:
    """Change all tokens from the middle to the last but one; return whether the last output moves."""
    context = ids.shape[1]
    begin = min(_CHANGED_FROM, max(1, context - 2))
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    changed = ids.clone()
    changed[:, begin : max(begin + 1, context - 1)] += 1
    changed %= vocabulary
    after = read(changed)
    found.note(_compare(whole[:, :begin], after[:, :begin], same_shape=True), _by_later(loaded))
    return context > begin + 1 and _compare(whole[:, -1:], after[:, -1:], same_shape=True) != "same"


def _with_other_last(loaded: "LoadedModel", ids: Tensor) -> Tensor:
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % int(loaded.model.config.get_text_config().vocab_size)
    return other


def _beside_longer(short: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Return a batch and its mask: the second row is the short text, the first repeats its tokens.

    If experts take only a limited number of tokens per call, the first row uses up the places that the
    second one needs.
    """
    n = short.shape[1]
    longer = short.repeat(1, 2)[:, : min(2 * n, context)]
    padded = nn.functional.pad(short, (0, longer.shape[1] - n))
    mask = torch.ones_like(padded)
    mask[:, n:] = 0
    return torch.cat([longer, padded]), torch.cat([torch.ones_like(longer), mask])


def _longer(loaded: "LoadedModel", ids: Tensor, first: Tensor, longest_tokens: int) -> Judged:
    """Compare the first outputs of the longest calls with those of the shortest calls computed alike."""
    borders, n = loaded.borders, first.shape[1]
    # The outputs for `ids` are reused if they were computed as `_first_outputs` does.
    known = {ids.shape[1]: first} if loaded.fast or loaded.model.base_model is loaded.model else {}
    worst: Judged = "same"
    lengths = sorted({longest_tokens, *(switch for switch in borders.switches if switch < longest_tokens)})
    for length in lengths:
        least = max((switch + 1 for switch in borders.switches if switch < length), default=ids.shape[1])
        if borders.each_above is not None:
            length = min(length, borders.each_above)  # noqa: PLW2901 - each longer length differs
        if length > least:
            one = known[least] if least in known else _first_outputs(loaded, ids, n, least)
            other = _first_outputs(loaded, ids, n, length)
            worst = max(worst, _compare(one, other, same_shape=False), key=_SEVERITY.index)
    return worst


_SEVERITY: list[Judged] = ["same", "unknown", "unsure", "moved"]


def _first_outputs(loaded: "LoadedModel", ids: Tensor, n: int, length: int) -> Tensor:
    """Return the first `n` outputs of a call of some length: hidden states, or logits without a body."""
    repeated = ids.repeat(1, -(-length // ids.shape[1]))[:, :length]
    model, mask = loaded.model, {} if loaded.fast else {"attention_mask": torch.ones_like(repeated)}
    body = model.base_model
    if body is model:
        logits: Tensor = model(input_ids=repeated, use_cache=False, **mask).logits
        return logits[:, :n]
    hidden: Tensor = body(input_ids=repeated, use_cache=False, **mask).last_hidden_state
    return hidden[:, :n]


def _compare(one: Tensor, other: Tensor, *, same_shape: bool) -> Judged:
    """Judge whether outputs are the same up to rounding; see the docstring of this module."""
    if torch.equal(one, other):
        return "same"
    ulp, half = torch.finfo(one.dtype).eps, one.dtype != torch.float32
    one, other = one.double(), other.double()
    if not (torch.isfinite(one).all() and torch.isfinite(other).all()):
        # Scoring itself reports numbers that are not finite.
        return "unknown"
    moved = one - other
    if half:
        share = float((moved.square().mean() / one.square().mean()).sqrt())
        if not same_shape and share <= _HALF_SURELY_ULPS * ulp:
            return "same"
        return "moved" if share > _HALF_SURELY_MOVED else "unsure"
    tolerance = _SAME_SHAPE_ULPS * ulp if same_shape else _OTHER_SHAPE_SHARE
    return "moved" if float(moved.abs().max()) > tolerance * float(one.abs().max()) else "same"


def _examine_in_float32(loaded: "LoadedModel", longest_tokens: int, *, fast: bool) -> _Found | None:
    """Examine a copy in float32; return None if it has no room or cannot be made."""
    model = loaded.model
    sizes = [each.numel() for each in model.parameters()]
    if 4 * sum(sizes) > _COPY_BYTES_MAX or not all(each.is_floating_point() for each in model.parameters()):
        return None
    try:
        with outside("the model cannot be read in float32", ""):
            exact = copy.deepcopy(model).to(dtype=torch.float32)
            again = replace(loaded, model=exact, scratch={}, fast=fast)
            found = _examine(again, longest_tokens)
    except CheckpointError:
        # The model's code fixes the precision, or memory is short.
        return None
    loaded.fast = again.fast
    return found


def _by_later(loaded: "LoadedModel") -> Defect:
    config: Any = loaded.model.config.get_text_config()
    if getattr(config, "is_decoder", True) is False:
        cause = "config.json has is_decoder false: set it to true if the model was trained left to right"
    else:
        cause = "its attention is not causal: it was not trained to continue text"
    return Defect("the model sees later tokens: its output changes with tokens behind it", cause)


def _by_length(loaded: "LoadedModel") -> Defect:
    config: Any = loaded.model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    about = f" (rotary positions: {rope})" if rope else ""
    return Defect(
        f"the model's output changes with the length of the text that follows{about}",
        "no single number is its score; leave the model out, or score shorter spans",
    )


def _by_neighbours() -> Defect:
    return Defect(
        "the model scores a text differently in a batch with a longer one, even with an attention mask",
        "it sees its padding or the other texts, as experts with a capacity do; leave the model out",
    )


def _forgetful() -> Defect:
    return Defect(
        "the model gives the same text other scores after other calls",
        "it keeps state between calls, or draws at random; leave the model out",
    )
