"""Tokenizers from a bare SentencePiece model (no tokenizer.json): their pipeline and a check of it.

transformers converts such a model with a tokenizer class, which adds and removes spaces by its own defaults,
not by the model's `normalizer_spec`. This module sets the pipeline from the `normalizer_spec` and compares
the resulting ids with those of the SentencePiece library.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, decoders, normalizers

from memprobe.errors import CheckpointError
from memprobe.wording import counted

_SPACE: Final = "\u2581"
_AT_ONCE: Final = 1_000


def normalizer_of(charsmap: bytes, *, adds_prefix: bool, removes_spaces: bool) -> normalizers.Normalizer:
    """Return the normalizer of a `normalizer_spec`.

    Args:
        charsmap: The spec's `precompiled_charsmap`; if empty, characters stay as they are.
        adds_prefix: The spec's `add_dummy_prefix`: put a space in front of every text that is not empty.
        removes_spaces: The spec's `remove_extra_whitespaces`: remove spaces at both ends, and all but one of
            several in a row.
    """
    steps: list[normalizers.Normalizer] = [normalizers.Precompiled(charsmap)] if charsmap else []
    if removes_spaces:
        steps += [
            normalizers.Replace(Regex("^ +| +$"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if adds_prefix:
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])


def decoder_of(*, adds_prefix: bool, has_bytes: bool) -> decoders.Decoder:
    """Return the decoder that turns pieces back into text."""
    steps: list[decoders.Decoder] = [decoders.Replace(_SPACE, " ")]
    steps += [decoders.ByteFallback()] if has_bytes else []
    steps.append(decoders.Fuse())
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if adds_prefix else steps)


def follow(tokenizer: Any, path: Path) -> None:  # noqa: ANN401
    """Give a converted tokenizer the pipeline that its SentencePiece model describes."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    spec = proto.normalizer_spec
    core = tokenizer.backend_tokenizer
    core.pre_tokenizer = None
    core.normalizer = normalizer_of(
        spec.precompiled_charsmap,
        adds_prefix=spec.add_dummy_prefix,
        removes_spaces=spec.remove_extra_whitespaces,
    )
    core.decoder = decoder_of(adds_prefix=spec.add_dummy_prefix, has_bytes=proto.trainer_spec.byte_fallback)


def adds_prefix(path: Path) -> bool:
    """Return whether a SentencePiece model puts a space in front of a text."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return bool(proto.normalizer_spec.add_dummy_prefix)


def disagreements(tokenizer: Any, path: Path, texts: Iterable[str]) -> list[str]:  # noqa: ANN401
    """Return the texts to which the tokenizer gives other ids than the SentencePiece library.

    Texts that spell an added or special token are left out: the library reads them as plain text.
    """
    from sentencepiece import SentencePieceProcessor

    library = SentencePieceProcessor(model_file=str(path))
    added = [str(each) for each in tokenizer.added_tokens_decoder.values()]
    kept = [text for text in texts if not any(token in text for token in added)]
    found: list[str] = []
    for first in range(0, len(kept), _AT_ONCE):
        part = kept[first : first + _AT_ONCE]
        ours = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)
        pairs = zip(part, ours["input_ids"], library.encode(part), strict=True)
        found += [text for text, one, other in pairs if one != other]
    return found


def refuse_disagreement(tokenizer: Any, path: Path, texts: Sequence[str], n_items: int) -> None:  # noqa: ANN401
    """Refuse a tokenizer that gives some text other ids than its SentencePiece model.

    Args:
        tokenizer: The tokenizer.
        path: The file of its SentencePiece model.
        texts: Probe texts, followed by the texts of items.
        n_items: Number of texts of items.

    Raises:
        CheckpointError: Some texts get other ids; the message says how many and quotes no item.
    """
    n_probes = len(texts) - n_items
    of_probes = disagreements(tokenizer, path, texts[:n_probes])
    of_items = disagreements(tokenizer, path, texts[n_probes:])
    if of_probes or of_items:
        probe = f" (a probe text is {of_probes[0]!r})" if of_probes else ""
        raise CheckpointError(
            f"transformers gives {counted(len(of_items), 'text')} of the items and {len(of_probes)} of "
            f"{n_probes} probe texts other ids than the SentencePiece model{probe}",
            where=str(path),
            fix="give the items as input_ids, or name a tokenizer with a tokenizer.json with --tokenizer",
        )
