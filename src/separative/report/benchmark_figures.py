"""Figures of a benchmark: detection errors, EER by condition, similarities and differences between rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.drawing import COLOURS, figure_text
from separative.evaluation.results import MARKERS, Row
from separative.metrics import Roc
from separative.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cells = Mapping[tuple[str, str], Row]
"""Result rows of one metric by (model, condition)."""

Scores = Mapping[str, tuple[Floats, NDArray[np.bool_]]]
"""By name: scores of trials [N], and which of them are target trials [N]."""

# Percentages marked on the axes of a DET figure.
TICKS = (1, 2, 5, 10, 20, 30, 40, 50)
# Bins of a similarity histogram.
BINS = 40


def det_figure(scores: Scores) -> Figure:
    """Draw detection error trade-off curves: misses against false alarms on normal-deviate axes.

    The diagonal crosses each curve at its equal error rate.

    >>> rng = np.random.default_rng(0)
    >>> target = np.arange(200) < 100
    >>> figure = det_figure({"base": (rng.standard_normal(200) + 2 * target, target)})
    >>> figure.axes[0].lines[0].get_label()
    'base'
    """
    from scipy.special import ndtri

    figure, (axes,) = _panels(1, width=5.2, height=4.6)
    low, high = ndtri(0.008), ndtri(0.55)
    for (name, (score_N, target_N)), colour in zip(scores.items(), COLOURS, strict=False):
        miss_T, fa_T = Roc(score_N, target_N).points()
        inside = (miss_T > 0) & (miss_T < 1) & (fa_T > 0) & (fa_T < 1)
        axes.plot(
            ndtri(fa_T[inside]), ndtri(miss_T[inside]), color=colour, linewidth=1.3, label=figure_text(name)
        )
    axes.plot([low, high], [low, high], color="0.75", linewidth=0.8, linestyle=":")
    places = ndtri(np.array(TICKS) / 100)
    axes.set_xticks(places, [str(t) for t in TICKS])
    axes.set_yticks(places, [str(t) for t in TICKS])
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="false alarms, %", ylabel="misses, %", aspect="equal")
    axes.legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def sir_figure(cells: Cells, names: Sequence[str], sirs: Mapping[str, float], clean: str | None) -> Figure:
    """Draw the EER against the signal-to-interference ratio, with one interferer.

    Args:
        cells: EER rows by model and condition.
        names: models to draw.
        sirs: ratio of target to interferer in dB, by condition.
        clean: condition without an interferer, drawn at the right end; None to leave it out.

    >>> row = Row("base", "overlap0", "EER", 7.3, 5.3, 10.3, trials=100, corpus="all", seed=0)
    >>> figure = sir_figure({("base", "overlap0"): row}, ["base"], {"overlap0": 0.0}, None)
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [7.3]
    """
    figure, (axes,) = _panels(1, width=6.4, height=3.6)
    places = dict(sorted(sirs.items(), key=lambda item: item[1]))
    marks = {name: f"{sir:+g} dB" if sir else "0 dB" for name, sir in places.items()}
    if clean is not None:
        places[clean] = max(places.values()) + 5
        marks[clean] = "clean"
    _lines(axes, cells, names, places)
    axes.set_xticks(list(places.values()), list(marks.values()))
    axes.set(xlabel="signal-to-interference ratio", ylabel="EER, %", ylim=(0, None))
    axes.legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def length_figure(cells: Cells, names: Sequence[str], lengths: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the EER against the length of the test recording, one panel per condition.

    ``lengths``: by condition, the seconds of each variant of that condition, by the variant's name.

    >>> row = Row("base", "clean", "EER", 3.7, 2.4, 5.9, trials=100, corpus="all", seed=0)
    >>> figure = length_figure({("base", "clean"): row}, ["base"], {"clean": {"clean": 4.0}})
    >>> figure.axes[0].get_title()
    'clean'
    """
    figure, panels = _panels(len(lengths), width=3.4, height=3.2)
    for axes, (condition, places) in zip(panels, lengths.items(), strict=True):
        _lines(axes, cells, names, places)
        axes.set_xticks(list(places.values()), [f"{seconds:g}" for seconds in places.values()])
        axes.set(title=condition, xlabel="length of the test recording, s", ylabel="EER, %", ylim=(0, None))
    panels[-1].legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def similarity_figure(scores: Mapping[str, Scores]) -> Figure:
    """Draw histograms of trial scores, same speaker and different speakers: a row
    per model, a column per condition.

    >>> rng = np.random.default_rng(0)
    >>> target = np.arange(200) < 100
    >>> scores = {"clean": (rng.standard_normal(200) + 2 * target, target)}
    >>> similarity_figure({"base": scores}).axes[0].get_title()
    'base · clean'
    """
    conditions = list(dict.fromkeys(c for by_condition in scores.values() for c in by_condition))
    figure, panels = _panels(len(scores) * len(conditions), columns=len(conditions), width=3.4, height=1.5)
    places = iter(panels)
    for name, by_condition in scores.items():
        everything = np.concatenate([score_N for score_N, _ in by_condition.values()])
        edges = np.linspace(everything.min(), everything.max() + 1e-9, BINS + 1)
        for condition in conditions:
            axes = next(places)
            score_N, target_N = by_condition[condition]
            for chosen_N, colour, label in (
                (~target_N, COLOURS[1], "different speakers"),
                (target_N, COLOURS[0], "same speaker"),
            ):
                axes.hist(
                    score_N[chosen_N], edges.tolist(), density=True, color=colour, alpha=0.55, label=label
                )
            axes.set_yticks([])
            axes.set_title(figure_text(f"{name} · {condition}"), fontsize="x-small")
    panels[0].legend(loc="upper left", frameon=False, fontsize="x-small")
    for axes in panels[-len(conditions) :]:
        axes.set_xlabel("cosine", fontsize="x-small")
    return figure


def difference_figure(cells: Cells, names: Sequence[str], conditions: Sequence[str]) -> Figure:
    """Draw differences of EER with paired intervals, one panel per condition.

    A bar to the right of 0 has a higher error than the reference model. Bars are grey where the interval
    includes 0.

    >>> row = Row("no attention", "clean", "EER difference", 1.0, -0.5, 2.5, trials=100, corpus="all", seed=0)
    >>> figure = difference_figure({("no attention", "clean"): row}, ["no attention"], ["clean"])
    >>> float(figure.axes[0].patches[0].get_width())
    1.0
    """
    figure, panels = _panels(
        len(conditions), columns=len(conditions), width=2.6, height=0.8 + 0.28 * len(names), share_y=True
    )
    place = np.arange(len(names))[::-1]
    for axes, condition in zip(panels, conditions, strict=True):
        for y, name in zip(place, names, strict=True):
            row = cells.get((name, condition))
            if row is not None:
                significant = row.low > 0 or row.high < 0
                axes.barh(y, row.value, height=0.6, color=COLOURS[0] if significant else "0.75")
                axes.plot([row.low, row.high], [y, y], color="0.1", linewidth=1.2)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_yticks(place, [figure_text(name) for name in names])
        axes.set_title(condition, fontsize="small")
        axes.set_xlabel("EER difference, %", fontsize="x-small")
    return figure


def _lines(axes: Axes, cells: Cells, names: Sequence[str], places: Mapping[str, float]) -> None:
    """Draw values with their intervals as bands, one line per model."""
    for number, name in enumerate(names):
        rows = [(x, cells[name, c]) for c, x in places.items() if (name, c) in cells]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        x = [x for x, _ in rows]
        axes.plot(
            x,
            [row.value for _, row in rows],
            color=colour,
            marker=marker,
            markersize=4,
            label=figure_text(name),
        )
        axes.fill_between(
            x,
            [row.low for _, row in rows],
            [row.high for _, row in rows],
            color=colour,
            alpha=0.1,
            linewidth=0,
        )


def _panels(
    count: int, *, width: float, height: float, columns: int = 3, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels of equal style; sizes in inches, per panel."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    panels = list(grid.flat)[:count]
    for axes in panels:
        axes.tick_params(labelsize="x-small")
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels
