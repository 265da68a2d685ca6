"""Model specs: what `-m` means, which files it names, and who they are; no torch.

Reading order: spec.py (the grammar), identity.py (the records), contents.py (what one folder
holds), local.py and hub.py (where checkpoints are found), sequence.py (`resolve`), digest.py.
"""

from memprobe.checkpoints.digest import config_digest, tokenizer_digest, weights_digest
from memprobe.checkpoints.header import SafetensorsHeader, header
from memprobe.checkpoints.hub import fetch
from memprobe.checkpoints.identity import Checkpoint, CheckpointSequence
from memprobe.checkpoints.sequence import resolve
from memprobe.checkpoints.spec import StepSelection, parse_steps

__all__ = [
    "Checkpoint",
    "CheckpointSequence",
    "SafetensorsHeader",
    "StepSelection",
    "config_digest",
    "fetch",
    "header",
    "parse_steps",
    "resolve",
    "tokenizer_digest",
    "weights_digest",
]
