"""The end of the report: what was run, versions, signatures, what was left out or failed, citations."""

import json
from collections import Counter

import polars as pl

from memprobe.report.elements import Html, details, element, join, table, text, user_text
from memprobe.report.results import Results
from memprobe.tables.manifest import Manifest
from memprobe.wording import counted, sized, step_cell

_SHOWN = 20
_DIGEST = 12
_LONG = 1_000


def appendix(results: Results) -> Html:
    """Return the section on how the numbers were made and what is needed to reproduce them."""
    run = results.manifest
    parts = [
        element("h2", "How it was made", id="appendix"),
        _facts(run),
        *_failures(run),
        *_skipped(results),
        _checkpoints(run),
        _signatures(results.summary),
        _versions(run),
        _flags(run),
        _citations(results),
    ]
    return element("section", *parts)


def _pairs(given: list[tuple[str, Html]]) -> Html:
    return element(
        "dl", join(join([element("dt", text(name)), element("dd", value)]) for name, value in given)
    )


def _facts(run: Manifest) -> Html:
    items = run.measured
    files = [
        join(
            [
                user_text(each.spec, 120),
                text(f": {counted(each.n_items, 'item')}, "),
                _digest(each.sha256),
            ]
        )
        for each in items.files[:_SHOWN]
    ]
    seconds = run.timings
    given = [
        ("suite", user_text(run.suite.name, 120)),
        ("state", text(run.state)),
        ("items", join(files, "; ")),
        ("device", text(f"{run.device}, {run.dtype}")),
        ("BOS", text(run.bos)),
        ("seed", text(run.seed)),
    ]
    if "score_s" in seconds:
        given.append(("scoring", text(f"{seconds['score_s']:,.0f} s of {seconds['total_s']:,.0f} s")))
    again = element("code", "memprobe run RUN/suite.toml")
    return join([_pairs(given), element("p", "The run directory repeats the run: ", again)])


def _digest(digest: str | None) -> Html:
    return text("") if not digest else element("code", text(digest[:_DIGEST]))


def _failures(run: Manifest) -> list[Html]:
    failures = run.failures
    if not failures:
        return []
    rows = [
        [
            user_text(each.model),
            user_text(each.revision),
            text(step_cell(each.step)),
            user_text(each.error, 300),
        ]
        for each in failures[:_SHOWN]
    ]
    title = f"{counted(len(failures), 'checkpoint')} could not be scored"
    return [element("h3", title), table(("model", "revision", "step", "error"), rows)]


def _skipped(results: Results) -> list[Html]:
    if not results.skipped:
        return []
    reasons = Counter((each.get("probe") or "all", str(each.get("reason"))) for each in results.skipped)
    rows = [
        [text(probe), user_text(reason, 200), text(f"{n:,}")]
        for (probe, reason), n in reasons.most_common(_SHOWN)
    ]
    shown = [user_text(each.get("item_id") or "no id") for each in results.skipped[:_SHOWN]]
    left = len(results.skipped) - len(shown)
    more = f" and {left:,} more in skipped.jsonl" if left > 0 else ""
    return [
        element("h3", f"{counted(len(results.skipped), 'item')} left out"),
        table(("probe", "reason", "items"), rows),
        element("p", join(shown, ", "), more),
    ]


def _checkpoints(run: Manifest) -> Html:
    each_one = run.checkpoints
    every = max(1, -(-len(each_one) // (2 * _SHOWN)))
    shown = [row for i, row in enumerate(reversed(each_one)) if i % every == 0][::-1]
    rows = [
        [
            user_text(row.model),
            user_text(row.revision),
            text(step_cell(row.step)),
            _digest(row.weights_digest),
            _digest(row.tokenizer_digest),
            text(sized(row.n_bytes) if row.n_bytes else ""),
        ]
        for row in shown
    ]
    said = f" ({len(shown)} shown)" if len(shown) < len(each_one) else ""
    head = ("model", "revision", "step", "weights", "tokenizer", "size")
    return details(f"{counted(len(each_one), 'checkpoint')}{said}", table(head, rows))


def _signatures(summary: pl.DataFrame) -> Html:
    """Return the signatures: what each probe's numbers depend on besides checkpoint and items."""
    found = summary.select("probe", "signature").unique(maintain_order=True).head(2 * _SHOWN)
    rows = [[text(probe), element("code", user_text(signature, _LONG))] for probe, signature in found.rows()]
    said = element("p", "Numbers are comparable where signatures agree.")
    return details("Signatures", said, table(("probe", "signature"), rows))


def _versions(run: Manifest) -> Html:
    rows = [[text(name), text(version)] for name, version in run.versions.items()]
    return details("Versions", table(("library", "version"), rows))


def _flags(run: Manifest) -> Html:
    shown = json.dumps(run.flags, indent=1, ensure_ascii=False)
    lines = (user_text(line, 400) for line in shown.splitlines())
    return details("Flags", element("pre", join(lines, "\n")))


def _citations(results: Results) -> Html:
    """Return the BibTeX of the methods used, each paper once."""
    found: dict[str, None] = {}
    for about in results.probes.values():
        citation = about.about.citation if about.about else ""
        found |= dict.fromkeys(each for each in citation.split("\n\n") if each.strip())
    # Lines are escaped one by one: escaping a whole entry would remove its line breaks.
    shown = [join((text(line) for line in each.splitlines()), "\n") for each in found]
    return details("Citations of the methods (BibTeX)", element("pre", join(shown, "\n\n")))
