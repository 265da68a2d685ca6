"""The declaration of a probe: settings, candidates, plan, measure, tables, metrics.

A probe never sees a model. `plan` turns item lengths into requests; `measure` turns the answered
requests of one checkpoint into item-level rows. Its metrics give their values per item and
condition, so summary, report, compare and gate work for a new probe without any change.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from memprobe.tables.conditions import pairs
from memprobe.tables.requests import Plan
from memprobe.tables.schema import TableSchema
from memprobe.tables.views import CharWindows, TokenWindows, View

if TYPE_CHECKING:
    import numpy as np

    from memprobe.figures.panels import Figure

# How item values become an estimate: `rate` of values in {0, 0.5, 1}, `mean`, `median`, `auc` of `value`
# against `other`, `difference` of two rates, `km_median` the Kaplan-Meier median of `value`, a value where
# `other` is 1 and a lower bound of it where that is 0. `told`: the probe estimates it itself, over the whole
# sequence. `memprobe.stats.methods` names the intervals of each.
SummaryKind = Literal["rate", "mean", "median", "km_median", "auc", "difference", "sequence"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The answers of one checkpoint, as `measure` gets them.

    Attributes:
        spans: One answered row of `SPANS` per request of the plan.
        items: The items' table, keyed by `item_id`, with lengths; no text, no ids.
        windows: Rows of `WINDOWS` of the entry's view; None where it has none.
        step: The checkpoint's training step; None: not known.
    """

    spans: pl.DataFrame
    items: pl.DataFrame
    windows: pl.DataFrame | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """A further item-level table of a probe, made from its first one.

    Attributes:
        schema: Of the table.
        build: From the rows of one checkpoint, what they were measured from, and the settings, to the
            table's rows, keyed by `item_id` and what the schema adds.
        of_windows: Only entries that read windows over documents have it.
    """

    schema: TableSchema
    build: Callable[[pl.DataFrame, Scores, Any], pl.DataFrame]
    of_windows: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A table of estimates of one checkpoint, made from the first table of a probe.

    Attributes:
        schema: Of the table, with `model, revision, step` first.
        build: From the item-level rows of one checkpoint, `item_id, group, cluster` of the items, what the
            rows were measured from, the settings, and a source of draws for metric, group and condition,
            to the table's rows without their keys.
    """

    schema: TableSchema
    build: Callable[
        [pl.DataFrame, pl.DataFrame, Scores, Any, "Callable[..., np.random.Generator]"], pl.DataFrame
    ]


@dataclass(frozen=True, slots=True)
class OtherSequence:
    """Another sequence of the run, as far as it is scored; the control alone is none.

    Attributes:
        model: Its name.
        steps: The steps of its checkpoints, ascending; empty for a single one without a step.
        n_parameters: Of the model; None: not known.
        same_tokens: A span of tokens is the same text: it has the same tokenizer, or items are given as ids.
        rows: As in a history; without rows before anything is scored.
        missing: Names of its checkpoints that are not scored.
    """

    model: str
    steps: tuple[int, ...]
    n_parameters: int | None
    same_tokens: bool
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """One sequence of checkpoints as far as it is scored, as probes over time get it.

    Attributes:
        rows: What `measure` returned for every checkpoint, with its `step` (Int64), steps ascending.
        steps: The steps of these checkpoints, ascending; empty for a single one without a step.
        missing: Names of the checkpoints of the sequence that are not scored.
        items: The items' table, keyed by `item_id`, with lengths, and `trained` (whether it belongs to the
            training data; null: not said) as `memprobe.tables.facts` says; no text, no ids.
        draws: From a few words that name what is drawn to its source of draws.
        model: The sequence's name.
        n_parameters: Of the model; None: not known.
        others: The run's other sequences, for a probe that looks at them; else none.
    """

    rows: pl.DataFrame
    steps: tuple[int, ...]
    missing: tuple[str, ...]
    items: pl.DataFrame
    draws: "Callable[[str], np.random.Generator]"
    model: str = ""
    n_parameters: int | None = None
    others: tuple[OtherSequence, ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """The results of a probe on a whole sequence.

    Attributes:
        tables: Name to rows; `model` is put in front.
        estimates: Rows for the summary: `metric, group, condition, estimate, ci_low, ci_high, ci_method,
            n_items, n_clusters, n_missing, unit`.
        warnings: What makes the numbers doubtful, with the number that says so.
        left_out: How many items of the sequence are in no estimate, by the reason.
    """

    tables: Mapping[str, pl.DataFrame]
    estimates: pl.DataFrame
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OverTime:
    """How a probe looks at a whole sequence.

    Attributes:
        schemas: Of the tables that `estimate` makes, each with `model` first.
        estimate: From the history and the settings to the result.
        problems: From the steps of the sequence, the items as in a history, and the settings, to what
            makes the question impossible; empty where it can be answered.
        keeps_items: The item-level rows of each checkpoint are written as a table too.
        check_predictors: For a probe that also looks at the run's other sequences: from this sequence and the
            others to what makes the question impossible for it. The run is refused only where that is so for
            each of its sequences.
    """

    schemas: tuple[TableSchema, ...]
    estimate: Callable[[History, Any], SequenceResult]
    problems: Callable[[tuple[int, ...], pl.DataFrame, Any], list[str]]
    keeps_items: bool = True
    check_predictors: Callable[[OtherSequence, tuple[OtherSequence, ...]], list[str]] | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a probe.

    Attributes:
        name: Its name, with the unit at the end.
        unit: Unit of the estimate.
        more_means: What a larger value says; empty for a metric without a direction.
        summary: How item values become an estimate.
        values: From the item-level table and the settings to `item_id, condition, value` (and
            `other` for `auc` and `km_median`): `condition` is `key=value;...` or null, `value` Float64,
            null where undefined. Values in a series, such as those of windows that overlap, have also
            `position` (Int64, the order in the item), `overlap` (Int64: so many neighbours share text),
            `weight` (Float64, of the value in the mean) and perhaps `passage` (Int64: so many neighbours are
            in the longest memorized passage; null: not known); their intervals are by blocks. Values from 0
            to a number that the item's text sets have it as `most` (Float64).
        since_first: The value is taken as the change from the sequence's first checkpoint.
        more_is_memorized: Direction: True where more means more memorized; None: neither more nor less does.
        against_never: A share that means little alone: next to it are that of items never trained on, and
            the excess over them and over a control model; of a `rate`, its dose-response too.
        of_windows: Only entries that read windows over documents have it.
        relative: Parts of conditions, such as `mode=likelihood`, under which the value says nothing alone:
            of these only the excess is in the summary.
    """

    name: str
    unit: str
    more_means: str
    summary: SummaryKind
    values: Callable[[pl.DataFrame, Any], pl.DataFrame]
    since_first: bool = False
    more_is_memorized: bool | None = True
    against_never: bool = False
    of_windows: bool = False
    relative: tuple[str, ...] = ()

    @property
    def within_0_and_1(self) -> bool:
        """Whether every item value is between 0 and 1, so that intervals of rates hold for its mean."""
        return self.unit == "fraction" and not self.since_first and self.summary != "difference"

    @property
    def within_1_of_0(self) -> bool:
        """Whether every item value is a difference of two between 0 and 1."""
        return self.unit == "fraction" and not self.within_0_and_1

    def stands_alone(self, condition: str | None) -> bool:
        """Whether the value under a condition means something without one to compare with."""
        return not set(self.relative) & set(pairs(condition))

    def excess(self) -> "Metric":
        """Return the metric that says how far this rate is above another one, like `exact_excess_frac`."""
        return replace(
            self,
            name=f"{self.name.removesuffix('_frac')}_excess_frac",
            more_means=f"{self.name} further above that of never-trained items or of a control model",
            summary="difference",
            against_never=False,
            relative=(),
        )


def no_view(_: Any) -> View | None:  # noqa: ANN401
    """Read the items as they are."""
    return None


def not_of_items(_: pl.DataFrame, __: Any) -> pl.DataFrame:  # noqa: ANN401
    """Stand in for item values, which a metric of the whole sequence does not have.

    Raises:
        ValueError: Always.
    """
    raise ValueError("this metric has no item values: it is estimated from the whole sequence")


def sequence_metric(name: str, unit: str, more_means: str, *, more_is_memorized: bool = True) -> Metric:
    """Return a metric that its probe estimates from the whole sequence."""
    return Metric(name, unit, more_means, "sequence", not_of_items, more_is_memorized=more_is_memorized)


def no_checks(_: pl.DataFrame) -> dict[str, int]:
    """Count nothing."""
    return {}


@dataclass(frozen=True, slots=True)
class About:
    """What a reader of results must know about a probe; the manifest carries it.

    Attributes:
        measures: What it measures, in two sentences.
        how_to_read: What large and small values say, and what to set them next to.
        limits: What it cannot say, and what misleads.
        citation: BibTeX entries of the method, an empty line between them.
    """

    measures: str
    how_to_read: str
    limits: str
    citation: str


def arxiv(key: str, author: str, title: str, year: int, number: str) -> str:
    """Return the BibTeX entry of a paper on arXiv, `author` as BibTeX expects it: `A and B`."""
    return (
        f"@misc{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n  year = {{{year}}},\n"
        f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}}\n}}"
    )


@dataclass(frozen=True, slots=True)
class Ranking:
    """Which items of a table show most memory; it travels in the manifest.

    Attributes:
        table: Name of the table of items.
        by: Its column that ranks them, the largest first.
        shown: The columns that a report shows of each.
        title: Of the list.
    """

    table: str
    by: str
    shown: tuple[str, ...]
    title: str = "Most memorized items"


@dataclass(frozen=True, slots=True)
class Grid:
    """Estimates by several columns, as the summary shows them; it travels in the manifest.

    Attributes:
        table: Name of the table of estimates, one of the aggregates.
        title: What the grid shows.
        rows: Columns that name a line, each with its heading.
        columns: Values of `condition` that are columns, each with its heading.
        value: Column of the estimate; its interval is `ci_low` and `ci_high`.
        n: Column that says how many it is of.
        pooled: Columns that are null in the rows that are shown.
        beside: A column shown next to the estimates, with its heading; None: none.
    """

    table: str
    title: str
    rows: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    value: str
    n: str
    pooled: tuple[str, ...] = ()
    beside: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """The items from which a probe takes its candidates.

    Attributes:
        table: The items' table, with lengths; no text, no ids.
        given: Columns that an item file gave, even if only nulls.
        windows: Rows of `WINDOWS` of the entry's view; None where it has none.
    """

    table: pl.DataFrame
    given: frozenset[str]
    windows: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Which items a probe can measure.

    Attributes:
        needs: The columns of an item file that make an item a candidate, for messages; empty: any item.
        select: From what is offered to the rows of the candidates.
    """

    needs: tuple[str, ...]
    select: Callable[[Offered], pl.DataFrame]


EVERY_ITEM = Candidates((), lambda offered: offered.table)


def _with_dates(offered: Offered) -> pl.DataFrame:
    # A null in the column says "never trained on", which is a value.
    return offered.table if "first_step" in offered.given else offered.table.clear()


DATED = Candidates(("first_step",), _with_dates)
"""All items of files that say when items were first trained on."""


def with_column(name: str) -> Candidates:
    """Return the candidates of a probe that needs a column of the items' table; null means not given."""
    return Candidates((name,), lambda offered: rows_with(offered.table, name))


def rows_with(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the rows that have a value in a column, which the table need not have."""
    return table.filter(pl.col(column).is_not_null()) if column in table.columns else table.clear()


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe.

    Attributes:
        name: As in suites and tables.
        version: Of the definition: a number that could change raises it.
        title: What it asks, in one line.
        formula: The definition, in one or two lines.
        source: The paper.
        settings: A frozen dataclass of the options, checked when made.
        plan: From the items' table and the settings to the requests.
        measure: From the scores of one checkpoint and the settings to rows of `table`, keyed by
            `item_id` and what the schema adds.
        table: The schema of the item-level table.
        metrics: What is summarised.
        about: What a reader of its results must know.
        checks: Counts for the manifest, from the item's spans.
        view: From the settings to the view of the items that `plan` gets as rows of `WINDOWS`, with the
            lengths of its item next to each; None: `plan` gets the items' table.
        window_table: The schema of the first table where the entry reads windows; None: the same.
        derived: Further item-level tables.
        aggregates: Tables of estimates of each checkpoint, next to the summary.
        doubts: From the probe's summary rows of one model and the settings to what makes them doubtful.
        resolved: From the settings as asked to settings that say the same whatever ships later.
        over_time: What it says of a whole sequence; then two checkpoints with the same weights are an
            error, not a warning.
        rankings: Which items a report lists, from the first of these tables that a run has; empty: none.
            None: by the first metric that is a column of the table.
        candidates: Which items it can measure.
        cosmetic: Settings that change no number, so that runs which differ in them can be compared.
        dose: The swept setting, where more of it may raise a rate; such rates get a dose-response.
        grids: Tables of estimates that the summary shows.
        figures: A module whose `FIGURES` are drawn from its tables; imported when something is drawn.
        follows: Commands that make items for it and suggest it as the next step, like `data split`.
        searches: It searches for minutes where others score for seconds, so no other suite takes it along.
        swept: A setting for which a suite may give a list: one entry for each of its values, all of
            them on the same items.
    """

    name: str
    version: int
    title: str
    formula: str
    source: str
    settings: type
    plan: Callable[[pl.DataFrame, Any], Plan]
    measure: Callable[[Scores, Any], pl.DataFrame]
    table: TableSchema
    metrics: tuple[Metric, ...]
    about: About = field(default=About("", "", "", ""))
    checks: Callable[[pl.DataFrame], dict[str, int]] = field(default=no_checks)
    view: Callable[[Any], View | None] = field(default=no_view)
    window_table: TableSchema | None = None
    derived: tuple[Derived, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    doubts: Callable[[pl.DataFrame, Any], tuple[str, ...]] = field(default=lambda _, __: ())
    resolved: Callable[[Any], Any] = field(default=lambda asked: asked)
    over_time: OverTime | None = None
    swept: str | None = None
    rankings: tuple[Ranking, ...] | None = None
    candidates: Candidates = EVERY_ITEM
    cosmetic: tuple[str, ...] = ()
    dose: str | None = None
    grids: tuple[Grid, ...] = ()
    figures: str = ""
    follows: tuple[str, ...] = ()
    searches: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of an item file that an item must have to be measured."""
        return self.candidates.needs

    @property
    def item_schemas(self) -> tuple[TableSchema, ...]:
        """The schemas of its tables of one checkpoint's items; two of one name where windows add columns."""
        items = [self.table] if self.over_time is None or self.over_time.keeps_items else []
        windows = [] if self.window_table is None else [self.window_table]
        return (*items, *windows, *(each.schema for each in self.derived))

    @property
    def schemas(self) -> tuple[TableSchema, ...]:
        """The schemas of all tables that it writes."""
        sequence = self.over_time.schemas if self.over_time else ()
        return (*self.item_schemas, *sequence, *(each.schema for each in self.aggregates))

    @property
    def all_metrics(self) -> tuple[Metric, ...]:
        """The declared metrics, and the excess of each that has one."""
        return (*self.metrics, *(metric.excess() for metric in self.metrics if metric.against_never))

    def drawn(self) -> "tuple[Figure, ...]":
        """Return the figures that it declares."""
        return importlib.import_module(self.figures).FIGURES if self.figures else ()

    def metric(self, name: str) -> Metric:
        """Return the metric of that name."""
        return next(metric for metric in self.all_metrics if metric.name == name)

    def reads_windows(self, settings: Any) -> bool:  # noqa: ANN401
        """Whether an entry with these settings reads windows over documents."""
        return isinstance(self.view(settings), TokenWindows | CharWindows)

    def derived_for(self, settings: Any) -> tuple[Derived, ...]:  # noqa: ANN401
        """Return the further tables that an entry with these settings has."""
        windows = self.reads_windows(settings)
        return tuple(each for each in self.derived if windows or not each.of_windows)

    def table_names(self, settings: Any) -> list[str]:  # noqa: ANN401
        """Return the names of the tables that an entry with these settings writes, the telling one first."""
        result = [schema.name for schema in self.over_time.schemas] if self.over_time else []
        first = [self.table.name] if self.over_time is None or self.over_time.keeps_items else []
        derived = [each.schema.name for each in self.derived_for(settings)]
        derived += [each.schema.name for each in self.aggregates]
        return list(dict.fromkeys([*first, *result, *derived]))

    def metrics_for(self, settings: Any) -> tuple[Metric, ...]:  # noqa: ANN401
        """Return the metrics of item values that an entry with these settings has."""
        windows = self.reads_windows(settings)
        return tuple(
            metric
            for metric in self.metrics
            if metric.summary != "sequence" and (windows or not metric.of_windows)
        )

    def options(self) -> Mapping[str, Any]:
        """Return setting names and their defaults."""
        defaults = self.settings()
        return {each.name: getattr(defaults, each.name) for each in fields(self.settings)}


def whole(values: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return `item_id, condition, value` of one column under no condition."""
    return values.select(
        "item_id", condition=pl.lit(None, dtype=pl.String), value=pl.col(column).cast(pl.Float64)
    )


_ESTIMATES = {
    "metric": pl.String,
    "group": pl.String,
    "condition": pl.String,
    "estimate": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "ci_method": pl.String,
    "n_items": pl.Int64,
    "n_clusters": pl.Int64,
    "n_missing": pl.Int64,
    "unit": pl.String,
}


def no_estimates() -> pl.DataFrame:
    """Return summary rows of nothing."""
    return pl.DataFrame(schema=_ESTIMATES)
