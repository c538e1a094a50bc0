"""The benchmark page shows groups, best cells and missing rows; its figures show the given values."""

import re

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from separative.evaluation.results import Results, Row
from separative.report.benchmark_figures import det_figure, difference_figure, sir_figure
from separative.report.benchmark_page import BenchmarkTable, TableRow, markdown, write_table

SIRS = {"overlap+5": 5.0, "overlap0": 0.0}


def row(model: str, condition: str, value: float, metric: str = "EER") -> Row:
    return Row(model, condition, metric, value, value - 2, value + 2, 100, "all", 0)


@pytest.fixture
def table() -> BenchmarkTable:
    rows = [
        row(m, c, v)
        for m, c, v in (("CSC", "clean", 5.0), ("CSC", "overlap0", 9.0), ("CSC", "overlap+5", 7.0))
    ]
    rows += [row("no <x>", "clean", 4.0), row("no <x>", "overlap0", 12.0), row("no <x>", "overlap+5", 9.0)]
    rows += [row("CSC (query)", "clean", 3.0)]
    rows += [row("no <x>", c, v, "EER difference") for c, v in (("clean", -1.0), ("overlap0", 3.0))]
    table_rows = [
        TableRow("far <away>", "system", "not run: needs --peer-python"),
        TableRow("no <x>", "ablation", lr=1e-3, lr_from="CSC"),
        TableRow("CSC", "ours", lr=1e-3, tried=((1e-3, 7.0), (2e-3, 8.5)), parameters=1234567, minutes=3.25),
    ]
    rng = np.random.default_rng(0)
    target = np.arange(400) < 200
    scores = {"overlap0": (rng.standard_normal(400) + 2 * target, target)}
    return BenchmarkTable(
        "Heading",
        table_rows,
        Results(tuple(rows), {"against": "CSC", "speakers": 35}),
        [("made", "today & here")],
        ["clean", "overlap0"],
        sirs=SIRS,
        lengths={"clean": {"clean": 4.0}},
        shown=["CSC", "no <x>"],
        scores={"CSC": scores},
    )


def test_best_cell_of_each_column_is_bold(table) -> None:
    lines = markdown(table).splitlines()
    assert "| CSC | 5.0 (3.0 to 7.0) | **9.0** (7.0 to 11.0) |" in lines
    assert "| no <x> | **4.0** (2.0 to 6.0) | 12.0 (10.0 to 14.0) |" in lines
    assert (
        lines.index("| *ours* |  |  |")
        < lines.index("| *ablations* |  |  |")
        < lines.index("| *baseline systems* |  |  |")
    )
    assert "| far <away> | not run: needs --peer-python |  |" in lines


def test_training_settings_are_shown(table) -> None:
    text = markdown(table)
    assert "| CSC |  | 3.2 | 0.001 | 0.001: 7.0, 0.002: 8.5 |  | 1,234,567 |" in text
    assert "| no <x> |  |  | 0.001 | rate of CSC |" in text


def test_page_and_figures_are_written_and_the_page_is_self_contained(table, tmp_path) -> None:
    page = write_table(tmp_path, table).read_text()
    assert {p.name for p in tmp_path.iterdir()} == {
        *("index.html", "results.md", "det.png", "sir.png", "similarity.png", "ablations.png")
    }
    assert "<x>" not in page and "today &amp; here" in page and "far &lt;away&gt;" in page
    assert all(link.startswith("data:image/png;base64,") for link in re.findall(r'src="([^"]*)', page))
    assert len(re.findall("<img", page)) == 4


def test_det_curve_crosses_the_diagonal_at_the_eer() -> None:
    # Normal scores two standard deviations apart: the EER is Phi(-1) and the curve is a line of slope -1.
    quantile = (np.arange(4000) + 0.5) / 4000
    score = np.concatenate([ndtri(quantile), ndtri(quantile) + 2])
    figure = det_figure({"normal": (score, np.arange(8000) >= 4000)})
    curve = figure.axes[0].lines[0]
    x, y = curve.get_xdata(), curve.get_ydata()
    crossing = np.abs(x - y).argmin()
    assert abs(ndtr(x[crossing]) - ndtr(-1)) < 0.002
    assert np.abs((x + y)[np.abs(x + 1) < 1] + 2).max() < 0.02


def test_ratios_are_in_order_with_clean_at_the_right_end(table) -> None:
    axes = sir_figure(table.cells("EER"), table.shown, SIRS, "clean").axes[0]
    assert list(axes.lines[0].get_ydata()) == [9.0, 7.0, 5.0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0 dB", "+5 dB", "clean"]


def test_difference_is_grey_if_its_interval_includes_zero(table) -> None:
    figure = difference_figure(table.cells("EER difference"), ["no <x>"], ["clean", "overlap0"])
    grey, blue = (axes.patches[0] for axes in figure.axes)
    assert len(set(grey.get_facecolor()[:3])) == 1 and len(set(blue.get_facecolor()[:3])) == 3
    assert (grey.get_width(), blue.get_width()) == (-1.0, 3.0)
