"""LaTeX by its lines, and by pdflatex where there is one: hostile names compile, nothing leaves the page."""

import shutil
import subprocess

import polars as pl
import pytest

from memprobe.report.latex import paper_latex, plain_latex
from memprobe.report.papers import Style

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage[textwidth=5.5in,textheight=9in]{geometry}
\begin{document}
%s
\end{document}
"""


def test_numbers_are_cut_at_their_point_and_the_best_is_bold_on_both_sides(papers) -> None:
    rows = [
        *papers.steps(-0.25, 120.0),
        papers.row(step=20, estimate=float("inf"), ci_low=1.5, ci_high=None),
    ]
    text = paper_latex(papers.tables(Style(), *rows))
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("exact")]
    assert line == (
        r"exact\_frac & $-$0 & .25\,{\scriptsize [0.12, 0.50]} & 120 & \,{\scriptsize [0.12, 0.50]}"
        r" & \textbf{$\infty$} & \,{\scriptsize [1.50, open]} & 12 \\"
    )
    assert r"\begin{tabular}{@{}lr@{}lr@{}lr@{}lr@{}}" in text
    assert text.count(r"\begin{table}") == 1


def test_a_plain_table_keeps_numbers_to_the_right_and_breaks_long_texts() -> None:
    frame = pl.DataFrame({"a_b": ["x" * 50, None], "n": [-1.5, None], "ok": [True, None]})
    lines = [line.strip() for line in plain_latex(frame, "my_table").splitlines()]
    assert r"\begin{tabular}{@{}p{0.26\linewidth}rl@{}}" in lines
    assert r"a\_b & n & ok \\" in lines
    assert f"{'x' * 50} & $-$1.5 & true \\\\" in lines
    assert r"&  &  \\" in lines
    assert r"\label{tab:memprobe-my-table}" in lines


def test_a_long_table_is_several_floats_with_labels_of_their_own() -> None:
    text = plain_latex(pl.DataFrame({"n": range(100)}), "t")
    assert text.count(r"\begin{table}") == 3
    assert r"\label{tab:memprobe-t-3}" in text
    assert sum(line.strip().endswith(r"\\") for line in text.splitlines()) == 100 + 3


@pytest.fixture
def compiled(tmp_path):
    """Return a compiler: LaTeX in, the log out; fails where pdflatex does."""
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex")

    def compile_it(text: str) -> str:
        (tmp_path / "t.tex").write_text(DOCUMENT % text, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        log = done.stdout.decode("utf-8", "replace")
        if "booktabs.sty' not found" in log:
            pytest.skip("there is no booktabs")
        assert done.returncode == 0, log[-2000:]
        assert (tmp_path / "t.pdf").stat().st_size > 1000
        return log

    return compile_it


def test_every_hostile_text_compiles(compiled) -> None:
    texts = ["\\input{/etc/passwd} $x^2$ #1 100% a_b ~", "{{ x }} \\end{table}", "<a> | \"b\" `c` 'd'"]
    texts += ["a\u202eb\x00\x1b[31m\n", "é ñ ő ß Łódź ï", "中文 עברית 👩\u200d🔬", "--- ?` !`", "x" * 10_000]
    frame = pl.DataFrame({"=user\\'s $": texts, "n": [0.5] * len(texts)})
    log = compiled(plain_latex(frame, "host_ile", "A caption with 100% & \\input{x}"))
    assert "Missing character" not in log


def test_a_papers_table_of_four_steps_fits_the_width_of_a_page(papers, compiled) -> None:
    rows = [
        each
        for metric in ("accuracy_frac", "margin_nats")
        for condition in (None, "foil_kind=paraphrase")
        for each in papers.steps(
            -0.25, 0.5, 0.75, 1.0, probe="recognition", metric=metric, condition=condition
        )
    ]
    rows += [
        each
        for n in (1, 10, 100, 1000, 10000)
        for each in papers.steps(
            0.25, 0.5, 0.75, 1.0, metric="rate_frac", condition=f"scheme=nucleus0.9;n={n};p=0.5"
        )
    ]
    log = compiled(paper_latex(papers.tables(Style(), *rows)))
    assert "Overfull" not in log
    assert "Float too large" not in log
