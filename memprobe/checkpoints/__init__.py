"""Resolve model specs (`-m`) to checkpoints, their files and their identity, without importing torch.

Reading order: spec.py (the grammar) and names.py (steps in names), identity.py (data classes), contents.py
(the files of one checkpoint), local.py and hub.py (where checkpoints are found), adapter.py (LoRA and its
base), order.py (steps and stages), sequence.py (`resolve`), digest.py, checkpoint_cache.py (downloads).
For `memprobe checkpoints`: survey.py, schedule.py, verify.py.
"""

from memprobe.checkpoints.checkpoint_cache import CheckpointCache, check_supply, run_name
from memprobe.checkpoints.digest import config_digest, tokenizer_digest, weights_digest
from memprobe.checkpoints.header import SafetensorsHeader, header
from memprobe.checkpoints.hub import count_parameters, fetch
from memprobe.checkpoints.identity import Checkpoint, CheckpointSequence
from memprobe.checkpoints.sequence import find_tokenizer, resolve
from memprobe.checkpoints.spec import StepSelection, parse_steps

__all__ = [
    "Checkpoint",
    "CheckpointCache",
    "CheckpointSequence",
    "SafetensorsHeader",
    "StepSelection",
    "check_supply",
    "config_digest",
    "count_parameters",
    "fetch",
    "find_tokenizer",
    "header",
    "parse_steps",
    "resolve",
    "run_name",
    "tokenizer_digest",
    "weights_digest",
]
