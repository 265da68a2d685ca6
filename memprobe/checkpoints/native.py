"""Find the model types that the installed transformers supports, from its source, without importing it.

Listing checkpoints must not wait for torch, and no part of transformers can be imported quickly.
"""

import ast
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_TABLE = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"


def has_native_class(config: Mapping[str, Any]) -> bool:
    """Return whether transformers has a causal language model for this configuration's `model_type`."""
    kind = config.get("model_type")
    return isinstance(kind, str) and kind in causal_types()


@lru_cache(maxsize=1)
def causal_types() -> frozenset[str]:
    """Return the model types of transformers' causal language models; empty if they cannot be read.

    An empty set is the safe answer: a checkpoint that brings code then needs --trust-remote-code.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    file = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(ast.unparse(each) == _TABLE for each in node.targets)
    ]
    return frozenset(name for value in values for name in _first_of_pairs(value))


def _first_of_pairs(value: ast.expr) -> list[str]:
    pairs = [node.elts for node in ast.walk(value) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    return [
        first.value for first, _ in pairs if isinstance(first, ast.Constant) and isinstance(first.value, str)
    ]
