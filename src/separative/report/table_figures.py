"""The table's pictures: what tells rows apart in error rates, scores and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.figure import COLOURS, MARKERS
from separative.evaluation.results import Row
from separative.metrics import Floats, Roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cells = Mapping[tuple[str, str], Row]
# Percentages marked on the axes of a DET figure.
TICKS = (1, 2, 5, 10, 20, 30, 40, 50)
BINS = 40


def det_figure(scores: Mapping[str, tuple[Floats, NDArray[np.bool_]]]) -> Figure:
    """Misses against false alarms on normal-deviate axes; the diagonal crosses a curve at its EER."""
    from scipy.special import ndtri

    figure, (axes,) = _panels(1, width=5.2, height=4.6)
    low, high = ndtri(0.008), ndtri(0.55)
    for (name, (score_N, target_N)), colour in zip(scores.items(), COLOURS, strict=False):
        miss_T, fa_T = Roc(score_N, target_N).points()
        inside = (miss_T > 0) & (miss_T < 1) & (fa_T > 0) & (fa_T < 1)
        axes.plot(ndtri(fa_T[inside]), ndtri(miss_T[inside]), color=colour, linewidth=1.3, label=name)
    axes.plot([low, high], [low, high], color="0.75", linewidth=0.8, linestyle=":")
    places = ndtri(np.array(TICKS) / 100)
    axes.set_xticks(places, [str(t) for t in TICKS])
    axes.set_yticks(places, [str(t) for t in TICKS])
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="false alarms, %", ylabel="misses, %", aspect="equal")
    axes.legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def sir_figure(cells: Cells, names: Sequence[str], sirs: Mapping[str, float], clean: str | None) -> Figure:
    """EER against the ratio of the target to one other talker; without any, at the right end."""
    figure, (axes,) = _panels(1, width=6.4, height=3.6)
    places = dict(sorted(sirs.items(), key=lambda item: item[1]))
    marks = {name: f"{sir:+g} dB" if sir else "0 dB" for name, sir in places.items()}
    if clean is not None:
        places[clean] = max(places.values()) + 5
        marks[clean] = "alone"
    _lines(axes, cells, names, places)
    axes.set_xticks(list(places.values()), list(marks.values()))
    axes.set(xlabel="target over the other talker", ylabel="EER, %", ylim=(0, None))
    axes.legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def length_figure(cells: Cells, names: Sequence[str], lengths: Mapping[str, Mapping[str, float]]) -> Figure:
    """EER against the length of the test side, a panel per condition."""
    figure, panels = _panels(len(lengths), width=3.4, height=3.2)
    for axes, (condition, places) in zip(panels, lengths.items(), strict=True):
        _lines(axes, cells, names, places)
        axes.set_xticks(list(places.values()), [f"{seconds:g}" for seconds in places.values()])
        axes.set(title=condition, xlabel="seconds of the test side", ylabel="EER, %", ylim=(0, None))
    panels[-1].legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def similarity_figure(scores: Mapping[str, Mapping[str, tuple[Floats, NDArray[np.bool_]]]]) -> Figure:
    """Histograms of scores: the same talker and others, rows down, conditions across."""
    conditions = list(dict.fromkeys(c for by_condition in scores.values() for c in by_condition))
    figure, panels = _panels(len(scores) * len(conditions), columns=len(conditions), width=3.4, height=1.5)
    places = iter(panels)
    for name, by_condition in scores.items():
        everything = np.concatenate([score_N for score_N, _ in by_condition.values()])
        edges = np.linspace(everything.min(), everything.max() + 1e-9, BINS + 1)
        for condition in conditions:
            axes = next(places)
            score_N, target_N = by_condition[condition]
            for kind, colour, words in (
                (~target_N, COLOURS[1], "others"),
                (target_N, COLOURS[0], "same talker"),
            ):
                axes.hist(score_N[kind], edges.tolist(), density=True, color=colour, alpha=0.55, label=words)
            axes.set_yticks([])
            axes.set_title(f"{name} · {condition}", fontsize="x-small")
    panels[0].legend(loc="upper left", frameon=False, fontsize="x-small")
    for axes in panels[-len(conditions) :]:
        axes.set_xlabel("cosine", fontsize="x-small")
    return figure


def difference_figure(cells: Cells, names: Sequence[str], conditions: Sequence[str]) -> Figure:
    """Differences of EER with paired intervals, a panel per condition; right of 0 is worse than ours."""
    figure, panels = _panels(
        len(conditions), columns=len(conditions), width=2.6, height=0.8 + 0.28 * len(names), share_y=True
    )
    place = np.arange(len(names))[::-1]
    for axes, condition in zip(panels, conditions, strict=True):
        for y, name in zip(place, names, strict=True):
            row = cells.get((name, condition))
            if row is not None:
                beyond = row.low > 0 or row.high < 0
                axes.barh(y, row.value, height=0.6, color=COLOURS[0] if beyond else "0.75")
                axes.plot([row.low, row.high], [y, y], color="0.1", linewidth=1.2)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_yticks(place, names)
        axes.set_title(condition, fontsize="small")
        axes.set_xlabel("EER difference, %", fontsize="x-small")
    return figure


def _lines(axes: Axes, cells: Cells, names: Sequence[str], places: Mapping[str, float]) -> None:
    for number, name in enumerate(names):
        rows = [(x, cells[name, c]) for c, x in places.items() if (name, c) in cells]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        x = [x for x, _ in rows]
        axes.plot(x, [row.value for _, row in rows], color=colour, marker=marker, markersize=4, label=name)
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
