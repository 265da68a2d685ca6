"""A dry run tells how many items each rule needs and has, and judges nothing."""

from memprobe.gates.dry_run import dry_run
from tests.gates.conftest import row


def told(made, ruled, rows, *rules):
    return dry_run(made(rows), ruled(*rules))


def test_a_rate_needs_what_the_best_outcome_needs(made, ruled):
    (each,) = told(made, ruled, [row(3, 50)], "max = 0.05").rules
    assert [(need.n_items, need.n_needed) for need in each.rows] == [(50, 73)]
    assert each.summary == "needs 73 items, has 50"
    assert each.short == each.rows


def test_min_n_counts_where_it_asks_for_more(made, ruled):
    (each,) = told(made, ruled, [row(3, 80)], "max = 0.05\nmin_n = 100").rules
    assert (each.rows[0].n_needed, bool(each.short)) == (100, True)
    (each,) = told(made, ruled, [row(3, 80)], "max = 0.05\nmin_n = 80").rules
    assert (each.rows[0].n_needed, bool(each.short)) == (80, False)


def test_a_range_needs_what_its_harder_end_needs(made, ruled):
    # z^2 (1 - m) / m: 3.84 * 0.3 / 0.7 = 1.6 for max 0.7, 3.84 * 0.99 / 0.01 = 380.3 for min 0.99 alone
    (each,) = told(made, ruled, [row(60, 80)], "max = 0.995\nmin = 0.99").rules
    assert each.rows[0].n_needed == 381


def test_what_is_no_rate_needs_min_n(made, ruled):
    mean = row(0, 30) | {"metric": "lcp_tokens", "unit": "tokens", "ci_method": "bootstrap"}
    (each,) = told(made, ruled, [mean], 'metric = "lcp_tokens"\nmax = 0.05').rules
    assert (each.rows[0].n_needed, each.short) == (20, ())


def test_several_rows_have_the_least_of_them(made, ruled):
    rows = [row(0, n, step=step) for step, n in enumerate((90, 60, 70))]
    (each,) = told(made, ruled, rows, "max = 0.05").rules
    assert each.summary == "needs 73 items, its 3 rows have at least 60"
    assert [need.n_items for need in each.short] == [60, 70]


def test_a_rule_without_a_row_says_why(made, ruled):
    dry = told(made, ruled, [row(3, group="a")], 'max = 0.5\nwhere = { group = "b" }', "max = 0.5")
    assert dry.rules[0].summary == "no row has group b; its values are a"
    assert dry.line == "dry run: 2 rules, 2 with too few items or none; nothing was judged"
    document = dry.document()
    assert document["dry_run"] is True
    assert [each["rows"] for each in document["rules"]] == [[], []]


def test_nothing_is_written(made, ruled):
    run = made([row(3)])
    before = sorted(run.iterdir())
    dry_run(run, ruled("max = 0.5"))
    assert sorted(run.iterdir()) == before
