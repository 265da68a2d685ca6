"""What the fuzzer writes: from a kind and a seed to one command line with its files, always the same.

Nothing that ends or hangs a library outright is made here. Left out, with what guards them:
- numbers of threads beyond the range of `--threads` (tests/cli/test_surroundings.py),
- configurations whose sizes take more memory than the weights hold.
"""

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from tests.fuzz.worlds import CONTEXT, MARK, Naive, World

OK, USAGE, UNJUDGED, PARTIAL, UNSAFE = 0, 2, 3, 4, 5
DOCUMENTED = frozenset({0, 1, 2, 3, 4, 5, 130, 143})


@dataclass
class Input:
    """One input.

    Attributes:
        args: The command line.
        codes: Exit codes that are right for it.
        run: Where the run goes, if it is one.
        rows: The items that the run measures if it succeeds; None: they cannot be known.
        whole: All of `rows` must be in the tables of a success.
        secret: Their texts may be in no message.
        revisions: Folders of checkpoints by revision, for numbers; empty: those of the world.
        same_as: A finished run whose tables a success must equal.
        says: What was changed.
        environment: Variables.
    """

    args: list[str]
    codes: frozenset[int] = DOCUMENTED
    run: Path | None = None
    rows: list[dict[str, Any]] | None = None
    whole: bool = True
    secret: bool = False
    revisions: dict[str, Path] = field(default_factory=dict)
    same_as: Path | None = None
    says: str = ""
    environment: dict[str, str] = field(default_factory=dict)


Draw = random.Random


# Items

_ODD_TEXTS = ("\u0000", "\u202e", "e\u0301", "🙂", "\ufeff", "\x1b[31m", " ", "\n", "\u2028", "=1+1", "中文")


def rows_of(draw: Draw, naive: Naive, n: int) -> list[dict[str, Any]]:
    """Return sound items of all three forms; what the model says follows in about half of them."""
    rows = []
    for number in range(n):
        prefix = MARK + "".join(draw.choices("abcdefgh ", k=draw.randint(1, 12)))
        suffix = naive.greedy(prefix, draw.randint(1, 8))
        if draw.random() < 0.5:
            place = draw.randrange(len(suffix))
            suffix = suffix[:place] + draw.choice(("z", "e", "é", *_ODD_TEXTS)) + suffix[place:]
        row: dict[str, Any] = {"item_id": f"n{number}"}
        form = draw.randrange(3)
        if form == 0:
            row |= {"prefix": prefix, "suffix": suffix}
        elif form == 1:
            row["text"] = prefix + suffix
        else:
            row["input_ids"] = naive.tokenizer(prefix + suffix)["input_ids"]
        for name, values in (
            ("group", ("a", "b", None)),
            ("colour", ("red", 3, 2.5, True, None)),
            ("notes", ([1, [2]], {"k": None}, "é", None)),
        ):
            if draw.random() < 0.3:
                row[name] = draw.choice(values)
        rows.append(row)
    return rows


_BAD_ROWS: dict[str, Callable[[Draw, dict[str, Any]], Any]] = {
    "no-content": lambda d, r: {"item_id": r["item_id"]},
    "empty": lambda d, r: {"item_id": r["item_id"], "text": ""},
    "two-contents": lambda d, r: {"item_id": r["item_id"], "text": MARK, "input_ids": [1, 2]},
    "prefix-alone": lambda d, r: {"item_id": r["item_id"], "prefix": MARK},
    "wrong-type": lambda d, r: {"item_id": r["item_id"], "text": d.choice((3, [MARK], {"a": MARK}, True))},
    "count": lambda d, r: r | {"exposures": d.choice((-1, 1.5, MARK, [1], 2**63, 1e300, True))},
    "steps": lambda d, r: r | {"first_step": 9, "last_step": 3},
    "ids": lambda d, r: {
        "item_id": r["item_id"],
        "input_ids": d.choice(([], [1, -2], [1.5], ["x"], [2**70])),
    },
    "vocabulary": lambda d, r: {"item_id": r["item_id"], "input_ids": [1, 2, 256 + d.randrange(10**6)]},
    "long": lambda d, r: {"item_id": r["item_id"], "text": MARK * CONTEXT},
    "odd-group": lambda d, r: r | {"group": d.choice(([MARK], {"a": 1}, True, ""))},
}
_BAD_LINES = (
    '{"text": NaN}',
    '{"text": "a", "text": "b"}',
    '{"text": "\\ud800 half"}',
    '{"a": ' + "[" * 3000 + "]" * 3000 + "}",
    '{"text": "abcdef", "x": ' + "9" * 5000 + "}",
    '{"text": "abcdef", "x": 1e999}',
    "[1, 2]",
    '{"text": "cut',
    "null",
)


def items(seed: int, folder: Path, world: World, naive: dict[str, Naive]) -> Input:
    """An item file, sound or wrong in its rows or its bytes, given to `run` or `data check`."""
    draw = Draw(f"items-{seed}")
    rows = rows_of(draw, naive["step1"], draw.randint(1, 6))
    how = draw.choice(("sound", "row", "row", "row", "line", "bytes", "shifted"))
    skip = draw.random() < 0.4
    form = draw.choice(("jsonl", "jsonl", "json", "csv", "parquet", "txt"))
    if how == "line":
        form = "jsonl"
    elif how == "shifted":
        form = "csv"
    says, good = how, rows
    if how == "row":
        name = draw.choice(sorted(_BAD_ROWS))
        place = draw.randrange(len(rows))
        bad, says = _BAD_ROWS[name](draw, rows[place]), f"row {name}"
        good = [row for at, row in enumerate(rows) if at != place]
        rows = [bad if at == place else row for at, row in enumerate(rows)]
    if form in ("csv", "parquet", "txt") and how == "row":
        # Types of these are those of whole columns: what is wrong there is another thing.
        form = "jsonl"
    data = _written(form, rows, draw)
    if form == "txt":
        good = [{"item_id": "i", "text": data.decode()}]
    if how == "line":
        lines = data.decode().removesuffix("\n").split("\n")
        bad_line = draw.choice(_BAD_LINES)
        lines.insert(draw.randint(0, len(lines)), bad_line)
        data, says = ("\n".join(lines) + "\n").encode(), f"line {bad_line[:30]}"
    elif how == "bytes":
        data, says = _bytes_changed(draw, data, light=form == "parquet")
    elif how == "shifted":
        lines = [each + "\n" for each in data.decode().removesuffix("\n").split("\n")]
        place = draw.randrange(1, len(lines)) if len(lines) > 1 else 0
        data = "".join(f"{MARK},{each}" if at == place else each for at, each in enumerate(lines)).encode()
    file = folder / f"i.{form}"
    file.write_bytes(data)
    sound = how == "sound"
    secret = how in ("row", "line", "shifted")
    if draw.random() < 0.3:
        codes = frozenset({OK}) if sound and form not in ("csv", "txt") else frozenset({OK, USAGE})
        return Input(["data", "check", str(file)], codes, secret=secret, says=f"{form} {says}")
    out = folder / "run"
    args = ["run", "-p", "recall", "-m", str(world.main), "-d", str(file), "-o", str(out), "--threads", "1"]
    args += ["--on-bad-item", "skip"] if skip else []
    may_fail = how in ("bytes", "shifted") or form in ("csv", "txt") or not good
    codes = frozenset({OK}) if sound and not may_fail else frozenset({OK, USAGE})
    if how in ("row", "line"):
        codes = frozenset({OK}) if skip and good else frozenset({USAGE})
        if says == "row long" and not skip:
            codes = frozenset({USAGE})
    # A line that stands inside quotes is shifted inside an item, which is then another one.
    is_other = how == "bytes" or (how == "shifted" and _folded(rows))
    known = None if is_other else good
    return Input(args, codes, out, known, whole=how != "shifted", secret=secret, says=f"{form} {says}")


def _folded(rows: list[dict[str, Any]]) -> bool:
    """Return whether a text of an item goes over several lines."""
    return any("\n" in str(value) for row in rows for value in row.values())


def _written(form: str, rows: list[dict[str, Any]], draw: Draw) -> bytes:
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n" for row in rows).encode()
    if form == "json":
        return json.dumps(rows, indent=draw.choice((None, 1))).encode()
    if form == "txt":
        return (rows[0].get("text") or MARK).encode()
    names = list(dict.fromkeys(name for row in rows for name in row))
    if form == "csv":
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator=draw.choice(("\n", "\r\n")))
        writer.writerow(names)
        for row in rows:
            writer.writerow(["" if row.get(name) is None else _cell(row[name]) for name in names])
        return stream.getvalue().encode()
    frame = pl.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})
    stream_of_bytes = io.BytesIO()
    frame.write_parquet(stream_of_bytes)
    return stream_of_bytes.getvalue()


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _column(values: list[Any]) -> pl.Series:
    plain = all(value is None or isinstance(value, str) for value in values)
    ids = all(value is None or (isinstance(value, list) and isinstance(value[0], int)) for value in values)
    if plain or (ids and all(each is None or all(isinstance(i, int) for i in each) for each in values)):
        return pl.Series(values)
    return pl.Series([None if value is None else _cell(value) for value in values])


def _bytes_changed(draw: Draw, data: bytes, *, light: bool) -> tuple[bytes, str]:
    """Return the bytes with something done to them.

    Of Parquet only the length and the marks at its ends: what stands inside would be the library's to
    judge, which ends or hangs for some of it.
    """
    how = draw.choice(
        ("cut", "empty", "text", "marks") if light else ("cut", "flip", "insert", "drop", "utf16", "bom")
    )
    place = draw.randrange(len(data)) if data else 0
    if how == "cut":
        return data[:place], how
    if how == "empty":
        return b"", how
    if how == "text":
        return b"text\nplain words\n", how
    if how == "marks":
        return b"XXXX" + data[4:-4] + b"XXXX", how
    if how == "flip":
        changed = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(changed))
            changed[at] ^= 1 << draw.randrange(8)
        return bytes(changed), how
    if how == "insert":
        return data[:place] + bytes(draw.choices(range(256), k=draw.randint(1, 5))) + data[place:], how
    if how == "drop":
        return data[:place] + data[place + draw.randint(1, 9) :], how
    if how == "utf16":
        return data.decode("utf-8", "replace").encode("utf-16"), how
    return b"\xef\xbb\xbf" + data, how


# Suites

_VALUES = (
    *("0", "1", "2", "3", "-1", "7", "100000", "9223372036854775807", "9223372036854775808", "9" * 5000),
    *("0.5", "-0.5", "1.0", "1e400", "nan", "inf", "true", "false", '""', '"x"', '"start"', '"end"'),
    *("[]", "[1]", "[1, 10]", "[0]", "[[1]]", "{}", "{ a = 1 }", "[{ top_k = 4 }]", "[{ top_p = 2.0 }]"),
    *("[{ temperature = 0.0 }]", "1979-05-27", "[" * 200 + "]" * 200, '"é→中"', "0x" + "f" * 5000),
)
_KINDS = ("recall", "recognition", "extraction", "retention", "profile", "forgetting", "acquisition", "sort")
_SOUND_KEYS = {"recall": {"prefix_tokens": "4", "suffix_tokens": "2"}, "extraction": {"n": "[1, 10]"}}


def suites(seed: int, folder: Path, world: World, naive: dict[str, Naive]) -> Input:
    """A suite: keys, values, tables and bytes, with some entries that are sound."""
    from memprobe.probes.discovery import discover

    draw = Draw(f"suites-{seed}")
    lines = []
    if draw.random() < 0.5:
        lines += ["[suite]", "name = " + draw.choice(('"mine"', "3", '"é/.."', '""'))]
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(_KINDS)
        lines += ["[[probe]]", f'kind = "{kind if draw.random() < 0.95 else kind[:-1]}"']
        names = list(discover()[kind].settings.__dataclass_fields__)
        for name in draw.sample(names, min(len(names), draw.choice((0, 0, 1, 2)))):
            sound = _SOUND_KEYS.get(kind, {}).get(name)
            lines.append(f"{name} = {sound if sound and draw.random() < 0.5 else draw.choice(_VALUES)}")
    if draw.random() < 0.3:
        name = draw.choice(
            ("limit", "seed", "batch_tokens", "bos", "dtype", "steps", "on_bad_item", "nothing")
        )
        lines += ["[run]", f"{name} = {draw.choice(_VALUES)}"]
    text = ("\n".join(lines) + "\n").encode()
    says = "keys"
    if draw.random() < 0.2:
        text, says = _bytes_changed(draw, text, light=False)
    file = folder / "s.toml"
    file.write_bytes(text)
    args = ["run", str(file), "-m", str(world.main), "-d", str(world.items), "-o", str(folder / "run"), "-q"]
    args += ["--threads", "1"] + (["--dry-run"] if draw.random() < 0.3 else [])
    return Input(args, frozenset({OK, USAGE}), says=says)


# Rules

_RULE_VALUES = (*_VALUES, '"last"', '"first"', '"hi"', '"estimate"', '"warn"', '"recall"', '"exact_frac"')


def rules(seed: int, folder: Path, world: World, naive: dict[str, Naive]) -> Input:
    """A rules file; a part is simple enough that its verdict is known."""
    draw = Draw(f"rules-{seed}")
    file = folder / "r.toml"
    args = ["gate", str(_copied(world.run, folder)), "--rules", str(file)]
    args += draw.choice(([], ["--json"], ["--format", "markdown"], ["--format", "github"], ["--dry-run"]))
    if draw.random() < 0.4:
        return _simple_rule(draw, file, args, world)
    lines = []
    if draw.random() < 0.3:
        lines += [
            "[defaults]",
            f"{draw.choice(('min_n', 'severity', 'bound'))} = {draw.choice(_RULE_VALUES)}",
        ]
    for number in range(draw.randint(0, 3)):
        given = {
            "id": f'"r{number}"',
            "probe": '"recall"',
            "metric": '"exact_frac"',
            "max": "0.5",
            "min_n": "1",
        }
        for _ in range(draw.choice((0, 1, 1, 2))):
            key = draw.choice(
                (*given, "where", "min", "max_increase", "max_decrease", "bound", "why", "oops")
            )
            given[key] = draw.choice(_RULE_VALUES)
        if draw.random() < 0.4:
            key = draw.choice(("step", "group", "condition", "scheme", "exposures", "oops"))
            given["where"] = f"{{ {key} = {draw.choice(_RULE_VALUES)} }}"
        lines += ["[[rule]]", *(f"{key} = {value}" for key, value in given.items())]
    text = ("\n".join(lines) + "\n").encode()
    says = "keys"
    if draw.random() < 0.2:
        text, says = _bytes_changed(draw, text, light=False)
    file.write_bytes(text)
    return Input(args, frozenset({0, 1, 2, 3}), says=says)


def _simple_rule(draw: Draw, file: Path, args: list[str], world: World) -> Input:
    """One rule about one row, judged here from the summary."""
    summary = pl.read_parquet(world.run / "summary.parquet")
    metric, step = draw.choice(("exact_frac", "hit_frac", "lcp_tokens")), draw.choice((1, 2))
    rows = summary.filter(
        (pl.col("metric") == metric)
        & (pl.col("step") == step)
        & pl.col("group").is_null()
        & (pl.col("condition").fill_null("") == "")
    )
    (row,) = rows.iter_rows(named=True)
    limit, kind = draw.choice((0.0, 0.1, 0.25, 0.5, 0.9, 1.0, 3.0)), draw.choice(("max", "min"))
    min_n = draw.choice((1, 2, 1000))
    file.write_text(
        f'[[rule]]\nid = "r"\nprobe = "recall"\nmetric = "{metric}"\nwhere = {{ step = {step} }}\n'
        f'bound = "estimate"\n{kind} = {limit}\nmin_n = {min_n}\n'
    )
    met = row["estimate"] <= limit if kind == "max" else row["estimate"] >= limit
    code = UNJUDGED if row["n_items"] < min_n else OK if met else 1
    # A limit that no outcome could break, or meet, is refused, or judged by nobody.
    edge = {USAGE, UNJUDGED} if limit in (0.0, 1.0, 3.0) else set()
    codes = {OK if "--dry-run" in args else code} | edge
    return Input(args, frozenset(codes), says=f"{metric} {kind} {limit} min_n {min_n}")


def _copied(run: Path, folder: Path) -> Path:
    return shutil.copytree(run, folder / "copy")
