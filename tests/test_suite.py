"""Suites: every mistake named at once, `--set` in all its forms, and a written suite repeats itself."""

import re

import pytest

from memprobe.errors import SuiteError
from memprobe.options import RunOptions
from memprobe.pipeline.suite import (
    keep_probes,
    load_suite,
    settings_table,
    shipped_suites,
    suite_of,
    with_settings,
    write_suite,
)
from memprobe.probes.discovery import discover
from memprobe.tables.requests import Scheme

HEAD = '[suite]\nname = "mine"\ntitle = "Mine"\nsource = "me"\n'


@pytest.fixture
def loaded(tmp_path):
    def load(text: str, name: str = "mine.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return load_suite(tmp_path / name)

    return load


@pytest.fixture
def problems(loaded, tmp_path):
    """Return a function from a suite's text to its problems, the path without its folder."""

    def find(text: str) -> list[tuple[str, str, str]]:
        with pytest.raises(SuiteError) as caught:
            loaded(text)
        return [
            (each.what, each.where.replace(f"{tmp_path}/", ""), each.fix) for each in caught.value.problems
        ]

    return find


def test_a_suite_reads_as_it_is_written(loaded) -> None:
    suite = loaded(
        HEAD
        + """
        [[probe]]
        kind = "extraction"
        prefix_tokens = 50
        suffix_tokens = 20
        schemes = [{ top_k = 40 }, { temperature = 0.7, top_p = 0.9 }]
        n = [1, 10]
        p = [0.5, 0.9]

        [[probe]]
        kind = "recall"
        """
    )
    assert (suite.name, suite.title, suite.source, suite.run) == ("mine", "Mine", "me", {})
    extraction, recall = suite.entries
    assert extraction.settings.schemes == (Scheme(top_k=40), Scheme(temperature=0.7, top_p=0.9))
    assert (extraction.settings.n, extraction.settings.p) == ((1, 10), (0.5, 0.9))
    assert recall.settings == recall.probe.settings()


def test_a_suite_without_a_name_is_named_after_its_file(loaded) -> None:
    assert loaded('[[probe]]\nkind = "recall"\n', "night.toml").name == "night"


@pytest.mark.parametrize(
    ("text", "what", "where", "fix"),
    [
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\nprefix_token = 5',
            "unknown setting `prefix_token`, did you mean `prefix_tokens`?",
            "mine.toml [[probe]] 1 (recall)",
            "settings are prefix_tokens, suffix_tokens, align, generate, verify_items, chat",
            id="unknown-setting",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recognition"\nfoils = 5',
            "unknown setting `foils`",
            "mine.toml [[probe]] 1 (recognition)",
            "there are no settings here",
            id="no-settings",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\nprefix_tokens = "50"',
            '`prefix_tokens` is "50", not a whole number',
            "mine.toml [[probe]] 1 (recall)",
            "",
            id="wrong-type",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\nalign = "middle"',
            '`align` is "middle", allowed: start, end',
            "mine.toml [[probe]] 1 (recall)",
            "",
            id="wrong-choice",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\nsuffix_tokens = 0',
            "suffix_tokens is 0, not 1 or more",
            "mine.toml [[probe]] 1 (recall)",
            "",
            id="impossible-value",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "extraction"\nschemes = [{ topk = 40 }]',
            "`schemes` has the unknown key `topk`, did you mean `top_k`?; allowed: temperature, top_k, top_p",
            "mine.toml [[probe]] 1 (extraction)",
            "",
            id="unknown-key-of-a-scheme",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recal"',
            "unknown probe kind `recal`, did you mean `recall`?",
            "mine.toml [[probe]] 1",
            f"kinds are {', '.join(discover())}",
            id="unknown-kind",
        ),
        pytest.param(
            HEAD + "[[probe]]\nprefix_tokens = 5",
            "a probe has no `kind`",
            "mine.toml [[probe]] 1",
            f"kinds are {', '.join(discover())}",
            id="no-kind",
        ),
        pytest.param(HEAD, "the suite has no probe", "mine.toml", "add a [[probe]] with a `kind`", id="none"),
        pytest.param(
            HEAD + '[probe]\nkind = "recall"',
            "`probe` is not a list of tables",
            "mine.toml",
            "write [[probe]]",
            id="single-table",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\n[[probe]]\nkind = "recall"',
            "two entries of recall have the same settings",
            "mine.toml",
            "remove one",
            id="twins",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\n[[probes]]\nkind = "recall"',
            "unknown table `probes`, did you mean `probe`?",
            "mine.toml",
            "a suite holds [suite], [[probe]] and [run]",
            id="unknown-table",
        ),
        pytest.param(
            '[suite]\nnam = "x"\n[[probe]]\nkind = "recall"',
            "unknown key `nam`, did you mean `name`?",
            "mine.toml [suite]",
            "keys are name, title, source",
            id="unknown-key",
        ),
        pytest.param(
            '[suite]\nname = 3\n[[probe]]\nkind = "recall"',
            "`name` is 3, not a string",
            "mine.toml [suite]",
            "",
            id="name-not-a-string",
        ),
        pytest.param(
            'suite = "x"\n[[probe]]\nkind = "recall"',
            "`suite` is not a table",
            "mine.toml",
            "write [suite]",
            id="suite-not-a-table",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\n[run]\nsead = 3',
            "unknown setting `sead`, did you mean `seed`?",
            "mine.toml [run]",
            None,
            id="unknown-option",
        ),
        pytest.param(
            HEAD + '[[probe]]\nkind = "recall"\n[run]\ndtype = "float64"',
            '`dtype` is "float64", allowed: auto, float32, bfloat16, float16',
            "mine.toml [run]",
            "",
            id="wrong-option",
        ),
        pytest.param(
            'run = 3\n[suite]\n[[probe]]\nkind = "recall"',
            "`run` is not a table",
            "mine.toml",
            "",
            id="run-not-a-table",
        ),
    ],
)
def test_each_mistake_names_key_place_and_what_is_allowed(text, what, where, fix, problems) -> None:
    ((found_what, found_where, found_fix),) = problems(text)
    assert (found_what, found_where) == (what, where)
    if fix is not None:
        assert found_fix == fix


def test_all_mistakes_are_reported_at_once(problems) -> None:
    text = """
    extra = 1
    [suite]
    nam = "x"
    [run]
    sead = 1
    limit = "many"
    [[probe]]
    kind = "recall"
    prefix_token = 5
    suffix_tokens = 0
    [[probe]]
    kind = "nothing"
    [[probe]]
    kind = "extraction"
    n = [1.5]
    """
    assert [what for what, _, _ in problems(text)] == [
        "unknown table `extra`",
        "unknown key `nam`, did you mean `name`?",
        "unknown setting `prefix_token`, did you mean `prefix_tokens`?",
        "suffix_tokens is 0, not 1 or more",
        "unknown probe kind `nothing`",
        "`n` is 1.5, not a whole number",
        "unknown setting `sead`, did you mean `seed`?",
        '`limit` is "many", not a whole number',
    ]


def test_a_suite_that_is_not_there_suggests_its_neighbour(tmp_path) -> None:
    (tmp_path / "nightly.toml").write_text("")
    with pytest.raises(SuiteError, match=r"there is no suite file, did you mean `nightly\.toml`"):
        load_suite(tmp_path / "nightli.toml")
    with pytest.raises(SuiteError, match="there is no suite file"):
        load_suite(tmp_path / "nowhere" / "a.toml")


def test_an_unknown_name_suggests_what_ships() -> None:
    with pytest.raises(SuiteError, match="unknown suite `hayes`, did you mean `hayes2024`") as caught:
        load_suite("hayes")
    assert "a path must end in .toml" in caught.value.problems[0].fix
    assert "quickstart" in caught.value.problems[0].fix


@pytest.mark.parametrize("content", [b"[suite\n", b'[suite]\nname = "\xff"\n'])
def test_what_is_not_toml_is_refused_with_its_place(content, tmp_path) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(SuiteError, match="the suite is not TOML: ") as caught:
        load_suite(tmp_path / "a.toml")
    assert caught.value.problems[0].where == str(tmp_path / "a.toml")


def test_probes_alone_make_a_suite_of_defaults() -> None:
    suite = suite_of(["recall", "extraction", "recall"])
    assert suite.name == "recall-extraction"
    assert [entry.settings for entry in suite.entries] == [each.probe.settings() for each in suite.entries]
    with pytest.raises(SuiteError, match="no suite and no probe was given"):
        suite_of([])
    with pytest.raises(SuiteError, match="unknown probe `recal`, did you mean `recall`"):
        suite_of(["recal"])


def test_a_suite_keeps_the_probes_that_are_named() -> None:
    suite = load_suite("quickstart")
    assert [each.probe.name for each in keep_probes(suite, ["recall"]).entries] == ["recall"]
    assert keep_probes(suite, []) == suite
    carlini = keep_probes(load_suite("carlini2022"), ["recall"])
    assert len(carlini.entries) == 9
    with pytest.raises(SuiteError, match="the suite hayes2024 does not hold recall") as caught:
        keep_probes(load_suite("hayes2024"), ["recall"])
    assert caught.value.problems[0].fix == "it holds extraction"
    with pytest.raises(SuiteError, match="unknown probe `recal`"):
        keep_probes(suite, ["recal"])


# --set


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("recall.prefix_tokens=50", "prefix_tokens", 50),
        ("recall.generate=true", "generate", True),
        ("recall.align=start", "align", "start"),
        ('recall.align="start"', "align", "start"),
        ("extraction.p=[0.25, 0.75]", "p", (0.25, 0.75)),
        ("extraction.n=[1, 10]", "n", (1, 10)),
        ("extraction.schemes=[{top_k = 5}]", "schemes", (Scheme(top_k=5),)),
        (
            "extraction.schemes=[{temperature = 0.7, top_p = 0.9}, {}]",
            "schemes",
            (Scheme(temperature=0.7, top_p=0.9), Scheme()),
        ),
    ],
)
def test_a_setting_is_read_as_toml_else_as_a_string(assignment, key, value) -> None:
    suite = load_suite("quickstart")
    changed = with_settings(suite, [assignment])
    name = assignment.partition(".")[0]
    (entry,) = (each for each in changed.entries if each.probe.name == name)
    assert getattr(entry.settings, key) == value
    assert [each for each in changed.entries if each.probe.name != name] == [
        each for each in suite.entries if each.probe.name != name
    ]


def test_a_setting_applies_to_every_entry_of_its_probe() -> None:
    changed = with_settings(load_suite("carlini2022"), ["recall.suffix_tokens=20", "recall.verify_items=0"])
    assert {entry.settings.suffix_tokens for entry in changed.entries} == {20}
    assert {entry.settings.verify_items for entry in changed.entries} == {0}
    assert len({entry.settings.prefix_tokens for entry in changed.entries}) == 9


SWEPT = """
[suite]
name = "mine"
[[probe]]
kind = "recall"
prefix_tokens = [8, 16]
suffix_tokens = 4
[[probe]]
kind = "extraction"
prefix_tokens = 3
"""


def lengths(suite, probe: str = "recall") -> list[tuple[int | None, int | None]]:
    return [
        (each.settings.prefix_tokens, each.settings.suffix_tokens)
        for each in suite.entries
        if each.probe.name == probe
    ]


def test_a_list_for_the_swept_setting_makes_an_entry_of_each_value(loaded) -> None:
    suite = loaded(SWEPT)
    assert lengths(suite) == [(8, 4), (16, 4)]
    assert lengths(suite, "extraction") == [(3, None)]
    changed = with_settings(suite, ["extraction.prefix_tokens=[1, 2]", "recall.suffix_tokens=5"])
    assert lengths(changed) == [(8, 5), (16, 5)]
    assert lengths(changed, "extraction") == [(1, None), (2, None)]


@pytest.mark.parametrize(
    ("value", "kept"), [("7", [(7, 4)]), ("[7, 9]", [(7, 4), (9, 4)]), ("[16]", [(16, 4)])]
)
def test_entries_that_become_equal_are_one(value, kept, loaded) -> None:
    assert lengths(with_settings(loaded(SWEPT), [f"recall.prefix_tokens={value}"])) == kept


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[]", "`prefix_tokens` is an empty list"),
        ("[4, 4]", "`prefix_tokens` has one value twice"),
        ('[4, "x"]', '`prefix_tokens` is "x", not a whole number'),
        ("[4, -2]", "prefix_tokens is -2, not 0 or more"),
    ],
)
def test_a_wrong_list_says_what_is_wrong(value, told, problems) -> None:
    ((what, *_),) = problems(f'[[probe]]\nkind = "recall"\nprefix_tokens = {value}\n')
    assert what == told
    with pytest.raises(SuiteError, match=re.escape(told)):
        with_settings(suite_of(["recall"]), [f"recall.prefix_tokens={value}"])


def test_a_list_for_another_setting_is_wrong() -> None:
    with pytest.raises(SuiteError, match=re.escape("`suffix_tokens` is [3, 4], not a whole number")):
        with_settings(suite_of(["recall"]), ["recall.suffix_tokens=[3, 4]"])


def test_the_last_of_two_values_counts() -> None:
    changed = with_settings(load_suite("hayes2024"), ["extraction.n=[1]", "extraction.n=[2]"])
    assert changed.entries[0].settings.n == (2,)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("recall", "a setting has the form PROBE.KEY=VALUE"),
        ("recall.generate", "a setting has the form PROBE.KEY=VALUE"),
        ("generate=true", "a setting has the form PROBE.KEY=VALUE"),
        ("recall.=true", "a setting has the form PROBE.KEY=VALUE"),
        ("recal.generate=true", "this run has no probe `recal`, did you mean `recall`?"),
        ("recall.generat=true", "unknown setting `generat`, did you mean `generate`?"),
        ("recall.generate=yes", '`generate` is "yes", not true or false'),
        ("recall.prefix_tokens=-1", "prefix_tokens is -1, not 0 or more"),
        ("recall.align=end", 'align = "end" needs suffix_tokens'),
        ("extraction.schemes=top40", '`schemes` is "top40", not a list'),
        ("extraction.schemes=[{topk = 4}]", "`schemes` has the unknown key `topk`, did you mean `top_k`?"),
        ("extraction.p=", '`p` is "", not a list'),
        ("extraction.p =[0.5]", "unknown setting `p `"),
        (
            'extraction.schemes=[{top_k = "4"}]',
            '`schemes` holds a table in which `top_k` is "4", not a whole number',
        ),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(assignment, message) -> None:
    with pytest.raises(SuiteError, match=re.escape(message)) as caught:
        with_settings(load_suite("quickstart"), [assignment])
    assert caught.value.problems[0].where == f"--set {assignment}"


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(SuiteError) as caught:
        with_settings(load_suite("quickstart"), ["x", "recall.y=1", "recall.generate=1", "z.y=1"])
    assert len(caught.value.problems) == 4


# The run table, and writing


def test_the_run_table_takes_any_option_by_its_long_name(loaded) -> None:
    suite = loaded(
        '[[probe]]\nkind = "recall"\n[run]\nmodel = "org/name@step*"\ndata = ["a.jsonl", "b.csv"]\n'
        'steps = "0..10:5"\nlimit = 7\nbatch_tokens = 512\nbos = "none"\nseed = 3\noffline = true\n'
        'on_bad_item = "skip"\ninclude_text = false\n'
    )
    assert suite.run == {
        "model": ("org/name@step*",),
        "data": ("a.jsonl", "b.csv"),
        "steps": "0..10:5",
        "limit": 7,
        "batch_tokens": 512,
        "bos": "none",
        "seed": 3,
        "offline": True,
        "on_bad_item": "skip",
        "include_text": False,
    }
    assert RunOptions().overlaid(suite.run).limit == 7


FULL = RunOptions(
    model=("a", "b"),
    data=('weird "name".jsonl',),
    control="twin",
    steps="0,5",
    stages="a,b",
    tokenizer="tok",
    limit=3,
    device="cpu",
    dtype="float32",
    batch_tokens=99,
    bos="none",
    seed=5,
    threads=2,
    offline=True,
    trust_remote_code=True,
    allow_pickle=True,
    include_text=True,
    on_bad_item="skip",
)


@pytest.mark.parametrize("options", [FULL, RunOptions(model=("m",), data=("d",))], ids=["all", "few"])
@pytest.mark.parametrize("name", shipped_suites())
def test_a_written_suite_repeats_entries_and_options(name, options, tmp_path) -> None:
    suite = load_suite(name)
    file = tmp_path / "again.toml"
    file.write_text(write_suite(suite, options), encoding="utf-8")
    again = load_suite(file)
    assert again.entries == suite.entries
    assert (again.name, again.title, again.source) == (suite.name, suite.title, suite.source)
    assert RunOptions().overlaid(again.run) == options
    assert write_suite(again, options) == write_suite(suite, options)


def test_every_option_stands_in_a_written_suite(tmp_path) -> None:
    file = tmp_path / "again.toml"
    file.write_text(write_suite(load_suite("quickstart"), FULL), encoding="utf-8")
    assert set(load_suite(file).run) == set(RunOptions.__dataclass_fields__)


def test_changed_settings_survive_writing(tmp_path) -> None:
    settings = [
        "extraction.schemes=[{temperature = 0.7, top_k = 40, top_p = 0.95}, {}]",
        "extraction.p=[0.123456789]",
    ]
    suite = with_settings(load_suite("quickstart"), [*settings, "recall.generate=true"])
    file = tmp_path / "again.toml"
    file.write_text(write_suite(suite, RunOptions()), encoding="utf-8")
    assert load_suite(file).entries == suite.entries


def test_settings_as_a_table_leave_out_what_is_not_given() -> None:
    (entry,) = load_suite("hayes2024").entries
    table = settings_table(entry.settings)
    assert table["schemes"] == [{"temperature": 1.0, "top_k": 40}]
    assert table["p"] == [0.1, 0.5, 0.9, 0.999]
    assert table["align"] == "start"
    recall = load_suite("orhan2023").entries[1]
    assert settings_table(recall.settings) == {
        "align": "start",
        "generate": True,
        "verify_items": 4,
        "chat": False,
    }


def test_settings_that_need_each_other_may_come_in_any_order() -> None:
    suite = suite_of(["recall"])
    for order in (
        ["recall.align=end", "recall.suffix_tokens=4"],
        ["recall.suffix_tokens=4", "recall.align=end"],
    ):
        (entry,) = with_settings(suite, order).entries
        assert (entry.settings.align, entry.settings.suffix_tokens) == ("end", 4)


def test_of_one_setting_given_twice_the_last_counts() -> None:
    (entry,) = with_settings(
        suite_of(["recall"]), ["recall.suffix_tokens=4", "recall.suffix_tokens=7"]
    ).entries
    assert entry.settings.suffix_tokens == 7
