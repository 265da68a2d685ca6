"""The declaration of a probe: settings, candidates, plan, measure, tables, metrics.

A probe never sees a model. `plan` turns item lengths into requests; `measure` turns the answered
requests of one checkpoint into item-level rows. The metrics of a probe give values per item and
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
# against `other`, `difference` of two rates, `km_median`: the Kaplan-Meier median of `value`, which is exact
# where `other` is 1 and a lower bound where `other` is 0. `sequence`: the probe itself estimates it from the
# whole sequence of checkpoints. `memprobe.stats.methods` names the intervals.
SummaryKind = Literal["rate", "mean", "median", "km_median", "auc", "difference", "sequence"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The answered requests of one checkpoint, as `measure` gets them.

    Attributes:
        spans: One answered row of `SPANS` per request of the plan.
        items: The items' table, keyed by `item_id`, with lengths but without text and token ids.
        windows: Rows of `WINDOWS` of the entry's view; None if the entry has no view.
        step: The checkpoint's training step; None if it is not known.
    """

    spans: pl.DataFrame
    items: pl.DataFrame
    windows: pl.DataFrame | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """An additional item-level table of a probe, made from its first table.

    Attributes:
        schema: Schema of the table.
        build: Function from the rows of one checkpoint, the scores that they were measured from, and the
            settings to the rows of this table, keyed by `item_id` and the schema's further keys.
        of_windows: Whether only entries that read windows over documents have the table.
    """

    schema: TableSchema
    build: Callable[[pl.DataFrame, Scores, Any], pl.DataFrame]
    of_windows: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A table of estimates of one checkpoint, made from the first table of a probe.

    Attributes:
        schema: Schema of the table, with `model, revision, step` as its first columns.
        build: Function that returns the rows of the table without `model, revision, step`. Its arguments:
            the item-level rows of one checkpoint; `item_id, group, cluster` of the items; the scores that
            the rows were measured from; the settings; a function from metric, group and condition to a
            random generator.
    """

    schema: TableSchema
    build: Callable[
        [pl.DataFrame, pl.DataFrame, Scores, Any, "Callable[..., np.random.Generator]"], pl.DataFrame
    ]


@dataclass(frozen=True, slots=True)
class OtherSequence:
    """Another sequence of the run, with the rows scored so far; never one that is only the control.

    Attributes:
        model: Name of the sequence.
        steps: Steps of its checkpoints, ascending; empty for a single checkpoint without a step.
        n_parameters: Number of parameters of the model; None if it is not known.
        same_tokens: Whether a span of tokens is the same text for both sequences, because they have the same
            tokenizer or items are given as token ids.
        rows: Rows as in a history; empty before anything is scored.
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
    """One sequence of checkpoints with the rows scored so far, as probes over time get it.

    Attributes:
        rows: Rows that `measure` returned for every checkpoint, with `step` (Int64), steps ascending.
        steps: Steps of these checkpoints, ascending; empty for a single checkpoint without a step.
        missing: Names of the checkpoints of the sequence that are not scored.
        items: The items' table, keyed by `item_id`, with lengths and with `trained` (whether the item
            belongs to the training data; null: not said; defined in `memprobe.tables.facts`), but without
            text and token ids.
        draws: Function from a few words that name what is drawn to a random generator.
        model: Name of the sequence.
        n_parameters: Number of parameters of the model; None if it is not known.
        others: The run's other sequences if the probe uses them; else empty.
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
        tables: Rows of each table, by its name; the column `model` is added in front later.
        estimates: Rows for the summary: `metric, group, condition, estimate, ci_low, ci_high, ci_method,
            n_items, n_clusters, n_missing, unit`.
        warnings: Reasons to doubt the estimates, each with the number that shows it.
        left_out: Number of items of the sequence that are in no estimate, by reason.
    """

    tables: Mapping[str, pl.DataFrame]
    estimates: pl.DataFrame
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OverTime:
    """How a probe measures a whole sequence of checkpoints.

    Attributes:
        schemas: Schemas of the tables that `estimate` makes, each with `model` as its first column.
        estimate: Function from the history and the settings to the result.
        problems: Function from the steps of the sequence, the items as in a history, and the settings to
            the reasons why nothing can be estimated; empty if it can.
        keeps_items: Whether the item-level rows of each checkpoint are also written as a table.
        check_predictors: For a probe that also uses the run's other sequences: function from this sequence
            and the others to the reasons why nothing can be estimated for this sequence. The run is refused
            only if there are reasons for each of its sequences.
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
        name: Name of the metric, with the unit at the end.
        unit: Unit of the estimate.
        more_means: Meaning of a larger value; empty for a metric without a direction.
        summary: How item values become an estimate.
        values: Function from the item-level table and the settings to `item_id, condition, value` (and
            `other` for `auc`, `difference` and `km_median`). `condition` is `key=value;...` or null, `value`
            is Float64, null where undefined. Values in a series, such as those of overlapping windows, also
            have `position` (Int64, order in the item), `overlap` (Int64, number of neighbours that share
            text), `weight` (Float64, weight of the value in the mean) and optionally `passage` (Int64,
            number of neighbours in the longest passage that can be memorized; null: not known); their
            intervals are made from blocks. Values that range from 0 to a number set by the item's text have
            this number as `most` (Float64).
        since_first: Whether the value is the change from the sequence's first checkpoint.
        more_is_memorized: True if a larger value means more memorized, False if a smaller one does; None if
            neither does.
        against_never: Whether the share means little alone. The summary then also has the share of
            never-trained items, and the excess over them and over a control model; a `rate` also gets a
            dose-response.
        of_windows: Whether only entries that read windows over documents have the metric.
        relative: Parts of conditions, such as `mode=likelihood`, under which the value means nothing alone;
            for these, only the excess is in the summary.
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
        """Whether every item value is between 0 and 1, so that intervals for rates are valid for the mean."""
        return self.unit == "fraction" and not self.since_first and self.summary != "difference"

    @property
    def within_1_of_0(self) -> bool:
        """Whether every item value is a difference of two numbers between 0 and 1."""
        return self.unit == "fraction" and not self.within_0_and_1

    def stands_alone(self, condition: str | None) -> bool:
        """Return whether the value under a condition means something without a comparison."""
        return not set(self.relative) & set(pairs(condition))

    def excess(self) -> "Metric":
        """Return the metric of how far this rate is above another one, such as `exact_excess_frac`."""
        return replace(
            self,
            name=f"{self.name.removesuffix('_frac')}_excess_frac",
            more_means=f"{self.name} further above that of never-trained items or of a control model",
            summary="difference",
            against_never=False,
            relative=(),
        )


def no_view(_: Any) -> View | None:  # noqa: ANN401
    """Return no view: the items are read as they are."""
    return None


def not_of_items(_: pl.DataFrame, __: Any) -> pl.DataFrame:  # noqa: ANN401
    """Stand in for the item values, which a metric of the whole sequence does not have.

    Raises:
        ValueError: Always.
    """
    raise ValueError("this metric has no item values: it is estimated from the whole sequence")


def sequence_metric(name: str, unit: str, more_means: str, *, more_is_memorized: bool = True) -> Metric:
    """Return a metric that its probe estimates from the whole sequence."""
    return Metric(name, unit, more_means, "sequence", not_of_items, more_is_memorized=more_is_memorized)


def no_checks(_: pl.DataFrame) -> dict[str, int]:
    """Return no counts."""
    return {}


@dataclass(frozen=True, slots=True)
class About:
    """What a reader of results must know about a probe; stored in the manifest.

    Attributes:
        measures: What the probe measures, in two sentences.
        how_to_read: Meaning of large and small values, and what to compare them with.
        limits: What the probe cannot show, and what can mislead.
        citation: BibTeX entries of the method, separated by empty lines.
    """

    measures: str
    how_to_read: str
    limits: str
    citation: str


def arxiv(key: str, author: str, title: str, year: int, number: str) -> str:
    """Return the BibTeX entry of a paper on arXiv; `author` is in BibTeX form, such as `A and B`."""
    return (
        f"@misc{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n  year = {{{year}}},\n"
        f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}}\n}}"
    )


@dataclass(frozen=True, slots=True)
class Ranking:
    """List of the items of a table that show most memory; stored in the manifest.

    Attributes:
        table: Name of the table of items.
        by: Column that ranks the items, the largest value first.
        shown: Columns that a report shows for each item.
        title: Title of the list.
    """

    table: str
    by: str
    shown: tuple[str, ...]
    title: str = "Most memorized items"


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of estimates by several columns, which the summary shows; stored in the manifest.

    Attributes:
        table: Name of the table of estimates, one of the probe's aggregates.
        title: Title of the grid.
        rows: Columns whose values identify a line of the grid, each with its heading.
        columns: Values of `condition` that become columns of the grid, each with its heading.
        value: Column of the estimate; its interval is in `ci_low` and `ci_high`.
        n: Column with the number of cases behind an estimate.
        pooled: Columns that are null in the rows that are shown.
        beside: Additional column shown after the estimates, with its heading; None if there is none.
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
    """The items from which a probe selects its candidates.

    Attributes:
        table: The items' table, with lengths but without text and token ids.
        given: Columns that an item file gave, even if they hold only nulls.
        windows: Rows of `WINDOWS` of the entry's view; None if the entry has no view.
    """

    table: pl.DataFrame
    given: frozenset[str]
    windows: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rule that selects the items that a probe can measure.

    Attributes:
        needs: Columns of an item file that make an item a candidate, for messages; empty for any item.
        select: Function from the offered items to the rows of the candidates.
    """

    needs: tuple[str, ...]
    select: Callable[[Offered], pl.DataFrame]


EVERY_ITEM = Candidates((), lambda offered: offered.table)


def _with_dates(offered: Offered) -> pl.DataFrame:
    # A null in this column is a value: it means "never trained on".
    return offered.table if "first_step" in offered.given else offered.table.clear()


DATED = Candidates(("first_step",), _with_dates)
"""All items of files that say when items were first trained on."""


def with_column(name: str) -> Candidates:
    """Return the candidates of a probe that needs a value in one column of the items' table."""
    return Candidates((name,), lambda offered: rows_with(offered.table, name))


def rows_with(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the rows that have a value in a column; no rows if the table lacks the column."""
    return table.filter(pl.col(column).is_not_null()) if column in table.columns else table.clear()


@dataclass(frozen=True, slots=True)
class Probe:
    """The declaration of one probe.

    Attributes:
        name: Name of the probe in suites and tables.
        version: Version of the definition; any change that could change a number raises it.
        title: Question that the probe answers, in one line.
        formula: Definition, in one or two lines.
        source: Paper that describes the method.
        settings: Frozen dataclass of the options; it checks them when it is created.
        plan: Function from the items' table and the settings to the requests.
        measure: Function from the scores of one checkpoint and the settings to rows of `table`, keyed by
            `item_id` and the schema's further keys.
        table: Schema of the item-level table.
        metrics: Metrics of the probe.
        about: What a reader of the results must know.
        checks: Function from the answered spans of one checkpoint to counts for the manifest.
        view: Function from the settings to the view of the items. `plan` gets the view's rows of `WINDOWS`,
            each with the lengths of its item; if the view is None, `plan` gets the items' table.
        window_table: Schema of the first table if the entry reads windows; None if it is the same.
        derived: Additional item-level tables.
        aggregates: Tables of estimates of each checkpoint, in addition to the summary.
        doubts: Function from the probe's summary rows of one model and the settings to reasons to doubt them.
        resolved: Function from the given settings to settings that mean the same in later versions.
        over_time: How the probe measures a whole sequence; None if it does not. If it does, two checkpoints
            with the same weights are an error, not a warning.
        rankings: Lists of items for the report, which shows the first one whose table the run has; empty for
            no list. None: items are ranked by the first metric that is a column of the table.
        candidates: Rule that selects the items that the probe can measure.
        cosmetic: Settings that change no number; runs that differ only in these can be compared.
        dose: Swept setting whose larger values may raise a rate; such rates get a dose-response.
        grids: Grids that the summary shows.
        figures: Name of a module whose `FIGURES` are drawn from the probe's tables; imported when a figure is
            drawn.
        follows: Commands that make items for the probe and suggest it as the next step, such as `data split`.
        searches: Whether the probe searches for minutes where others score for seconds, so that no suite
            includes it together with other probes.
        swept: Setting for which a suite may give a list: each value becomes an entry, and all these entries
            use the same items.
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
        """Schemas of the item-level tables; two have the same name if windows add columns."""
        items = [self.table] if self.over_time is None or self.over_time.keeps_items else []
        windows = [] if self.window_table is None else [self.window_table]
        return (*items, *windows, *(each.schema for each in self.derived))

    @property
    def schemas(self) -> tuple[TableSchema, ...]:
        """Schemas of all tables that the probe writes."""
        sequence = self.over_time.schemas if self.over_time else ()
        return (*self.item_schemas, *sequence, *(each.schema for each in self.aggregates))

    @property
    def all_metrics(self) -> tuple[Metric, ...]:
        """The declared metrics, and the excess metric of each that has one."""
        return (*self.metrics, *(metric.excess() for metric in self.metrics if metric.against_never))

    def drawn(self) -> "tuple[Figure, ...]":
        """Return the figures that the probe declares."""
        return importlib.import_module(self.figures).FIGURES if self.figures else ()

    def metric(self, name: str) -> Metric:
        """Return the metric with the given name."""
        return next(metric for metric in self.all_metrics if metric.name == name)

    def reads_windows(self, settings: Any) -> bool:  # noqa: ANN401
        """Return whether an entry with these settings reads windows over documents."""
        return isinstance(self.view(settings), TokenWindows | CharWindows)

    def derived_for(self, settings: Any) -> tuple[Derived, ...]:  # noqa: ANN401
        """Return the additional item-level tables that an entry with these settings has."""
        windows = self.reads_windows(settings)
        return tuple(each for each in self.derived if windows or not each.of_windows)

    def table_names(self, settings: Any) -> list[str]:  # noqa: ANN401
        """Return the names of the tables that an entry with these settings writes, the main table first."""
        result = [schema.name for schema in self.over_time.schemas] if self.over_time else []
        first = [self.table.name] if self.over_time is None or self.over_time.keeps_items else []
        derived = [each.schema.name for each in self.derived_for(settings)]
        derived += [each.schema.name for each in self.aggregates]
        return list(dict.fromkeys([*first, *result, *derived]))

    def metrics_for(self, settings: Any) -> tuple[Metric, ...]:  # noqa: ANN401
        """Return the metrics estimated from item values that an entry with these settings has."""
        windows = self.reads_windows(settings)
        return tuple(
            metric
            for metric in self.metrics
            if metric.summary != "sequence" and (windows or not metric.of_windows)
        )

    def options(self) -> Mapping[str, Any]:
        """Return the default of each setting, by its name."""
        defaults = self.settings()
        return {each.name: getattr(defaults, each.name) for each in fields(self.settings)}


def whole(values: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return `item_id, condition, value` for one column, with null as condition."""
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
    """Return an empty table of summary rows."""
    return pl.DataFrame(schema=_ESTIMATES)
