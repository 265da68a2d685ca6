"""Draws the invented canaries and controls that `memprobe init --template ci` writes.

Run `python tests/goldens/make_ci_items.py > data/templates/ci/items.jsonl` to write them anew.
"""

import json
import random
import sys

SEED = 20_261_121
N_EACH = 40
FIRST = ("Ada", "Bruno", "Clara", "Dario", "Edith", "Farid", "Greta", "Hugo", "Ines", "Jakub")
LAST = ("Almgren", "Brandvold", "Castell", "Dvorak", "Eriksen", "Farkas", "Girard", "Holub")


def code(rng: random.Random) -> str:
    """Return four pairs of digits: 10^8 of them are equally likely."""
    return "-".join(f"{rng.randrange(100):02d}" for _ in range(4)) + "."


def items() -> list[dict[str, object]]:
    """Return as many canaries as controls, each for another name."""
    rng = random.Random(SEED)
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    rng.shuffle(names)
    rows: list[dict[str, object]] = []
    for number, name in enumerate(names[: 2 * N_EACH]):
        group, place = ("canary", number) if number < N_EACH else ("control", number - N_EACH)
        prefix = f"The safe of {name} opens with the code "
        rows.append(
            {
                "item_id": f"{group}-{place + 1:02d}",
                "group": group,
                "exposures": (1, 4, 16, 64)[place % 4] if group == "canary" else 0,
                "prefix": prefix,
                "suffix": code(rng),
                "foil": prefix + code(rng),
            }
        )
    return rows


def text() -> str:
    """Return the items as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in items())


if __name__ == "__main__":
    sys.stdout.write(text())
