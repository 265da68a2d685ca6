"""The names of the methods of intervals, as they occur in `ci_method`: all that a summary can print.

Each name either has measured coverage in `docs/validation`, or says why there is no interval.
"""

import re

from memprobe.stats.intervals import BIASED, FEW_CLUSTERS, FEW_FOR_MEDIAN, LONG_RUN, NO_SPREAD, UNFIT

MEASURED = {
    "wilson": "rates of items of their own",
    "pseudo-document": "means between 0 and 1 over documents, shares of items, tokens of a suffix",
    "pseudo-document-paired": "differences of pairs over documents, and changes of shares",
    "pseudo-document-weighted": "F1 and F2 of the forecast",
    "pseudo-document-of-pairs": "areas of 0 and 1",
    "wilson-of-pairs": "areas between, where no pair varies",
    "pseudo-block": "rates over overlapping windows",
    "newcombe": "differences of two rates of items of their own",
    "newcombe-paired": "differences of pairs of items of their own",
    "square-and-add": "differences of two estimates of which one is over documents; areas over documents",
    "hall-t": "means without known bounds",
    "cluster-hall-t": "the same over documents",
    "sign-test": "medians",
    "cluster-sign-test": "the same over documents",
    "greenwood-log-log": "Kaplan-Meier medians and curves",
    "cluster-log-log-t": "the same over documents",
    "delong-logit-t": "areas under the ROC curve, of items of their own",
    "influence-function-t": "cells, means and bands of the profile",
    "calibrated-profile": "half-lives",
    "cluster-calibrated-profile": "the same over documents",
    "expanded-bootstrap": "decay, times to recover, curves by lag of log-probabilities",
    "expanded-basic-bootstrap": "measures of stability",
}
"""Name to what it is used for."""

WITHOUT = {
    NO_SPREAD: "the items, or their clusters, agree",
    FEW_CLUSTERS: "clusters are worth fewer than two of equal size",
    LONG_RUN: "a memorized passage is longer than the blocks",
    FEW_FOR_MEDIAN: "the median may lie beyond all values seen",
    BIASED: "a minimum or maximum over checkpoints that noise moves",
    UNFIT: "a curve follows none of the laws, so it has no half-life by them",
}
"""What stands for the method where there is no interval, and why there is none."""

IN_TABLES = {
    "cluster-t": "curve of `acquisition` by time",
    "moving-block": "means without known bounds over overlapping windows, which no probe has",
    "t-robust": "slopes of the dose-response",
    "t-cluster-robust": "the same over documents",
    "clopper-pearson": "bounds that a gate needs",
    "bootstrap": "phi of the forecast, and differences between runs",
    "cluster-bootstrap": "the same over documents",
}
"""Methods of tables and comparisons alone: no summary prints them."""

_COMPOSED = re.compile(r"square-and-add \((.*)\)")


def parts(name: str) -> set[str]:
    """Return the methods that a name is composed of, without the suffix for few documents.

    Args:
        name: Value of `ci_method`; `square-and-add (wilson, pseudo-document-few)` is composed of three.
    """
    if found := _COMPOSED.fullmatch(name):
        return {"square-and-add"}.union(*(parts(each) for each in found[1].split(", ")))
    return {name if name.startswith("none:") else name.replace("-few", "")}
