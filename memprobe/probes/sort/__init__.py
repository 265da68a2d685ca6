"""SORT: which of two segments of a text comes first, with the text in the prompt and from memory?

Every trial is asked in both orders of presentation. The result is the change of the preference for a label
when the earlier segment moves to the front, so a model that always says `A` is at chance. Likelihood mode
compares the two concatenations instead; it also measures coherence, so only its excess over a control is
reported.

Source: Pink et al. (2024), section 3, https://arxiv.org/abs/2410.08133
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import polars as pl

from memprobe.errors import ItemError
from memprobe.probes.contract import (
    About,
    Aggregate,
    Candidates,
    Grid,
    Metric,
    Offered,
    Probe,
    Ranking,
    Scores,
    arxiv,
)
from memprobe.probes.sort.estimate import accuracy_table, prompts_table
from memprobe.probes.sort.tables import SORT, SORT_ACCURACY, SORT_PROMPTS
from memprobe.probes.sort.trials import in_test, of_chosen, prompt_rows, trial_table
from memprobe.probes.sort.values import BY_LIKELIHOOD, correct, doubts, gap, mass, position_bias
from memprobe.tables.prompts import Prompt, read_prompts
from memprobe.tables.requests import Plan, request_frame
from memprobe.tables.views import LIKELIHOOD_ORDERS, Trials
from memprobe.wording import near_miss


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of sort.

    Attributes:
        mode: `prompt` asks a question with two labels; `likelihood` compares the two concatenations, for
            models that do not follow questions; `both` does both. In likelihood mode, if nothing is before
            the segments (no BOS, no excerpt), the first token of each segment is left out in both orders, so
            that the same tokens are compared.
        conditions: `in_context` (the excerpt is in the prompt), `parametric` (from memory), or both.
        prompt_file: TOML file with [[prompt]] tables, used instead of the built-in templates.
        prompts: The templates themselves, used instead of the built-in templates.
        templates: Names of the templates to use, in this order; empty: all.
        select: `first` asks with the first template. `best` asks with all templates and keeps, for each
            checkpoint, the one with the best accuracy on the validation trials.
        shots: Number of answered trials before each question, from validation trials of other documents.
        content_free: Also ask a question with empty texts, and subtract its log-odds of the labels from the
            position bias and from the answer to a single presentation; `delta` does not need it.
        chat: Use the tokenizer's chat template; None: if it has one.
        separator: Text between excerpt and segments in likelihood mode.

    Raises:
        ValueError: A value is outside its range.
    """

    mode: Literal["prompt", "likelihood", "both"] = "prompt"
    conditions: tuple[Literal["in_context", "parametric"], ...] = ("in_context", "parametric")
    prompt_file: str | None = None
    prompts: tuple[Prompt, ...] = ()
    templates: tuple[str, ...] = ()
    select: Literal["first", "best"] = "first"
    shots: int = 0
    content_free: bool = False
    chat: bool | None = None
    separator: str = " "

    def __post_init__(self) -> None:
        if self.prompt_file is not None:
            object.__setattr__(self, "prompts", read_prompts(Path(self.prompt_file)))
            object.__setattr__(self, "prompt_file", None)
        problems = [*_template_problems(self)]
        if self.mode == "likelihood" and self.select == "best":
            problems.append('select = "best" chooses a template, and likelihood mode has none')
        if self.mode == "likelihood" and (self.shots or self.content_free):
            problems.append("shots and content_free are about questions, and likelihood mode asks none")
        if not problems:
            try:
                _ = self.trials
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def used(self) -> tuple[Prompt, ...]:
        """The templates that are used; empty in likelihood mode."""
        if self.mode == "likelihood":
            return ()
        there = {prompt.name: prompt for prompt in self.prompts or read_prompts()}
        chosen = [there[name] for name in self.templates] or list(there.values())
        return tuple(chosen if self.select == "best" else chosen[:1])

    @property
    def trials(self) -> Trials:
        """The view of the items."""
        return Trials(
            prompts=self.used,
            conditions=self.conditions,
            likelihood=self.mode != "prompt",
            shots=self.shots,
            content_free=self.content_free,
            chat=self.chat,
            separator=self.separator,
        )

    @property
    def resolved(self) -> "Settings":
        """The same settings with the used templates inside, independent of the built-in templates."""
        return replace(self, prompts=self.used, templates=())


def _template_problems(settings: Settings) -> list[str]:
    """Return the problems of template names: unknown or given twice."""
    if not settings.templates:
        return []
    there = [prompt.name for prompt in settings.prompts or read_prompts()]
    problems = [
        f"there is no template `{name}`{near_miss(name, there)}; templates are {', '.join(there)}"
        for name in settings.templates
        if name not in there
    ]
    if len(set(settings.templates)) < len(settings.templates):
        problems.append("templates has one name twice")
    return problems


def plan(trials: pl.DataFrame, settings: Settings) -> Plan:
    """Request every test trial in both orders, and the validation trials if they are to choose a template.

    Raises:
        ItemError: A template is to be chosen, but there are no validation trials.
    """
    asked = trials.with_columns(order=pl.col("trial").struct.field("order")).filter(
        pl.col("order").is_not_null()
    )
    chooses = len(settings.used) > 1
    if chooses and asked.filter(~in_test(asked)).is_empty():
        raise ItemError(
            f"sort chooses among {len(settings.used)} templates, and no trial has `validation` in `split`",
            fix='make some with `memprobe data sort`, or ask with one template (sort.select="first")',
        )
    is_text = pl.col("order").is_in(LIKELIHOOD_ORDERS)
    # Validation trials choose a template, and concatenations have none.
    wanted = asked.filter(in_test(asked) | (~is_text if chooses else pl.lit(value=False)))
    unfit = wanted.filter(pl.col("stop").is_null()).select("item_id").unique(maintain_order=True)
    placed = wanted.filter(pl.col("stop").is_not_null())
    return Plan(
        pl.concat(
            [
                request_frame(placed.filter(~is_text), detail="choice"),
                request_frame(placed.filter(is_text), detail="sums"),
            ]
        ).unique(maintain_order=True),
        unfit=unfit.with_columns(reason=pl.lit("has a question too long for the model's context")),
    )


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:
    """Measure which order of the segments the model prefers in each trial.

    Returns:
        The columns of `SORT` after the keys, for test trials only. If `delta` is positive, the model prefers
        the right order.
    """
    names = [prompt.name for prompt in settings.used]
    return trial_table(scores, of_chosen(prompt_rows(scores), names))


def _trials(offered: Offered) -> pl.DataFrame:
    """Return the items with a question in the windows; a run keeps no text that would show the trials."""
    if offered.windows is None:
        return offered.table.clear()
    asked = offered.windows.filter(pl.col("trial").struct.field("order").is_not_null())
    return offered.table.join(asked, on="item_id", how="semi", maintain_order="left")


PROBE = Probe(
    name="sort",
    version=1,
    title="Does the model know which of two segments of a text comes first?",
    formula="delta = 1/2 ([z_A - z_B | earlier = A] - [z_A - z_B | earlier = B]), z = ln mass of a label; "
    "correct: delta > 0; likelihood: delta = ln p(earlier later) - ln p(later earlier)",
    source="Pink et al. 2024, arXiv:2410.08133",
    about=About(
        measures="Two segments of a text are shown and the model says which comes first, with the excerpt "
        "that holds them in the prompt (in_context) or from training alone (parametric). It is memory for "
        "the order of events, which neither recitation nor knowledge of the content gives.",
        how_to_read="accuracy_frac is 0.5 by chance. Set parametric beside documents never trained on or a "
        "control model, and beside in_context, which says whether the model can do the task at all; "
        "label_mass says whether it answers, position_bias_frac how far it follows the place of a segment.",
        limits="Cues in the text (Finally, dates) give an order away without memory, so parametric accuracy "
        "needs a control. Likelihood mode also measures coherence and is shown only in excess of a control.",
        citation=arxiv(
            "pink2024sort",
            "Pink, Mathis and Vo, Vy A. and Wu, Qinyuan and Mu, Jianing and Turek, Javier S. and Hasson, Uri "
            "and Norman, Kenneth A. and Michelmann, Sebastian and Huth, Alexander and Toneva, Mariya",
            "Assessing Episodic Memory in LLMs with Sequence Order Recall Tasks",
            2024,
            "2410.08133",
        ),
    ),
    settings=Settings,
    candidates=Candidates(("segment_1", "segment_2"), _trials),
    follows=("data sort",),
    plan=plan,
    measure=measure,
    table=SORT,
    metrics=(
        Metric(
            "accuracy_frac",
            "fraction",
            "more trials in which the earlier segment is found",
            "rate",
            correct,
            against_never=True,
            relative=(BY_LIKELIHOOD,),
        ),
        Metric(
            "position_bias_frac",
            "fraction",
            "more answers name the first label, whatever stands there; 0: none too many, -1 to 1",
            "difference",
            position_bias,
            more_is_memorized=None,
        ),
        Metric(
            "gap_frac",
            "fraction",
            "the excerpt in the prompt helps more: in-context minus parametric accuracy",
            "difference",
            gap,
            more_is_memorized=None,
        ),
        Metric(
            "label_mass",
            "fraction",
            "more of the model's next token is an answer at all",
            "mean",
            mass,
            more_is_memorized=None,
        ),
    ),
    view=lambda settings: settings.trials,
    aggregates=(Aggregate(SORT_ACCURACY, accuracy_table), Aggregate(SORT_PROMPTS, prompts_table)),
    doubts=doubts,
    resolved=lambda settings: settings.resolved,
    rankings=(Ranking("sort", "delta", ("condition", "mode", "distance_words", "delta")),),
    grids=(
        Grid(
            SORT_ACCURACY.name,
            "sort by words of excerpt and segment",
            rows=(("excerpt_words", "excerpt"), ("segment_words", "segment")),
            columns=(("in_context", "in context"), ("parametric", "from memory")),
            value="accuracy_frac",
            n="n_trials",
            pooled=("group", "distance_bin"),
            beside=("human_accuracy_frac", "readers"),
        ),
    ),
    figures="memprobe.probes.sort.figures",
)
