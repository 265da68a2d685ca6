"""A controlled checkpoint sequence with planted memories: the demo's, or from the user's own text."""

from memprobe.lab.settings import LabProgress, LabResult, TrainSettings
from memprobe.lab.train import open_lab, train_demo, train_text
from memprobe.lab.truth import LAB_TRUTH

__all__ = [
    "LAB_TRUTH",
    "LabProgress",
    "LabResult",
    "TrainSettings",
    "open_lab",
    "train_demo",
    "train_text",
]
