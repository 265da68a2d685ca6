"""Lengths at which a model changes its arithmetic, and the state that rotary frequencies keep between calls.

LongRoPE (https://arxiv.org/abs/2402.13753) takes one set of frequencies for calls up to the original
context and another for longer ones; dynamic NTK has its own for every longer length. The longest sequence
decides for the whole call, so sequences read together must be on the same side of every border. A text gets
the score that it has when it is read alone and whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class Borders:
    """The lengths of calls at which a model changes its arithmetic.

    Attributes:
        switches: Longest call before each change, in tokens, ascending: (64,) means that all calls of up to
            64 tokens are computed alike, and so are all longer ones.
        each_above: Above this many tokens every length is computed in its own way; None if there is no
            such limit.
    """

    switches: tuple[int, ...] = ()
    each_above: int | None = None

    @property
    def first(self) -> int | None:
        """Longest call that is computed like the shortest ones; None if all calls are."""
        return min((*self.switches, *(() if self.each_above is None else (self.each_above,))), default=None)

    def side(self, n_tokens: int) -> tuple[int, int]:
        """Return a key that two lengths share exactly if they are computed alike."""
        own = n_tokens if self.each_above is not None and n_tokens > self.each_above else 0
        return sum(n_tokens > switch for switch in self.switches), own

    def apart(self, n_tokens: Sequence[int]) -> list[list[int]]:
        """Group the positions of lengths that may be read together, shortest lengths first."""
        if self.first is None:
            return [list(range(len(n_tokens)))]
        sides = [self.side(each) for each in n_tokens]
        return [[place for place, side in enumerate(sides) if side == one] for one in sorted(set(sides))]


def borders_of(config: Any) -> Borders:  # noqa: ANN401
    """Return the borders that a text configuration names."""
    switches: set[int] = set()
    above: set[int] = set()
    for rope in _ropes(config):
        kind = str(rope.get("rope_type") or rope.get("type") or "")
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        longest = getattr(config, "max_position_embeddings", None)
        # PhiMoE scales by length, whatever its rope type.
        if kind in {"longrope", "su"} or "short_mscale" in rope:
            switches.update(each for each in (original or longest,) if isinstance(each, int))
        elif "dynamic" in kind:
            above.update(each for each in (longest, rope.get("original_max_position_embeddings")) if each)
    return Borders(tuple(sorted(switches)), min(above, default=None))


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401
    """Yield the settings of rotary positions; a model may have separate ones for each type of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        given = getattr(config, name, None)
        if isinstance(given, Mapping):
            nested = [each for each in given.values() if isinstance(each, Mapping)]
            yield from nested
            if "rope_type" in given or "type" in given:
                yield given


def forget_longer_calls(model: nn.Module) -> None:
    """Make dynamic frequencies depend on the current call, not on the longest call so far."""
    for module in model.modules():
        if _dynamic_prefixes(module) and hasattr(module, "original_max_seq_len"):
            module.register_forward_pre_hook(_forget)


def _dynamic_prefixes(module: nn.Module) -> list[str]:
    """Return the name prefixes of buffers of dynamic frequencies; a module may have several layer types."""
    kinds = getattr(module, "rope_type", None)
    named = (
        {f"{layer}_": kind for layer, kind in kinds.items()} if isinstance(kinds, Mapping) else {"": kinds}
    )
    return [prefix for prefix, kind in named.items() if "dynamic" in str(kind)]


def _forget(module: Any, _: Any) -> None:  # noqa: ANN401
    """Reset the frequencies that the last call left; transformers itself does so only after some lengths."""
    for prefix in _dynamic_prefixes(module):
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
        inv_freq = getattr(module, f"{prefix}inv_freq", None)
        original = getattr(module, f"{prefix}original_inv_freq", None)
        if inv_freq is not None and original is not None and inv_freq is not original:
            module.register_buffer(f"{prefix}inv_freq", original.to(inv_freq.device), persistent=False)
