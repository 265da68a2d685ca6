#!/usr/bin/env bash
# numpy.negative into a column of an array writes the wrong numbers where a row of the source is 64 bytes.
#
# Package: numpy 2.4.6, on x86-64; with AVX2 on and off (NPY_DISABLE_CPU_FEATURES="X86_V3") alike.
# Behaviour: np.negative(panel[:, 0], out=differences[:, 1]) reads the source as if it were contiguous, so
#   it negates panel.ravel()[:n_rows], the first rows instead of the first column, where panel has 8 columns
#   of float64. With 7, 9 or 16 columns, or into a contiguous result, it is right. Nothing warns of it.
# Seen (rows of the panel are 0..7, 8..15, ...; the column is 0, 8, 16, 24):
#   8 columns: -0 -1 -2 -3     expected -0 -8 -16 -24
#   7 columns: -0 -7 -14 -21
#   8 columns, contiguous result: -0 -8 -16 -24
# Why it matters: a difference-in-differences panel holds one row for each item and one column for each
#   checkpoint, and the gap before training is minus the base column. With exactly 8 checkpoints the gap, and
#   every warning that rests on it, is that of other items at other checkpoints.
#
# Exit status: 0 while the behaviour is as described, 1 when it has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.4.6

cat >"$work/show.py" <<'PYTHON'
import sys

import numpy as np


def negated(n_columns: int, *, strided: bool) -> tuple[np.ndarray, np.ndarray]:
    panel = np.arange(40.0 * n_columns).reshape(40, n_columns)
    result = np.zeros((40, n_columns))[:, 1] if strided else np.zeros(40)
    np.negative(panel[:, 0], out=result)
    return result, -1.0 * panel[:, 0]


wrong = []
for n_columns in range(2, 33):
    found, expected = negated(n_columns, strided=True)
    if not np.array_equal(found, expected):
        wrong.append(n_columns)
        print(f"{n_columns} columns: {found[:4]}, expected {expected[:4]}")
found, expected = negated(8, strided=False)
print(f"8 columns, contiguous result: {found[:4]}, expected {expected[:4]}")
panel = np.arange(320.0).reshape(40, 8)
rows = negated(8, strided=True)[0]
as_described = wrong == [8] and np.array_equal(found, expected) and np.array_equal(rows, -panel.ravel()[:40])
print("numpy", np.__version__, "wrong with", wrong, "columns")
sys.exit(0 if as_described else 1)
PYTHON
"$work/venv/bin/python" "$work/show.py"
