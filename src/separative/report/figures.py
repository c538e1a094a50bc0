"""The page's pictures: training curves and spectrograms. Object-oriented Matplotlib: no global state."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.evaluation.results import COLOURS, MARKERS, Row
from separative.metrics import Roc
from separative.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


RANGE_DB = 70.0
SMOOTHING = 50
# Not curves of learning.
SKIPPED = ("lr", "epoch", "threads", "eta", "seconds", "rate", "memory", "wait", "grad")


def curve_panels(curves: Curves) -> dict[str, list[str]]:
    """Which curves share a panel: those of one quantity, named by its first word (``csc_query``: ``csc``).

    A validation key (``valid/csc_clean``) belongs to the panel of its quantity.
    """
    panels: dict[str, list[str]] = {}
    for key in curves:
        quantity = key.rpartition("/")[2]
        if not any(word in quantity.lower() for word in SKIPPED):
            panels.setdefault(quantity.split("_")[0], []).append(key)
    return panels


def curves_figure(axis: str, curves: Curves) -> Figure:
    """A panel per quantity against time; training faint with its running mean, validation dotted."""
    from matplotlib.figure import Figure

    panels = curve_panels(curves)
    columns = min(3, max(1, len(panels)))
    rows = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    for number, keys in enumerate(panels.values()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for key, colour in zip(keys, COLOURS * len(keys), strict=False):
            place, value = (np.array(x) for x in curves[key])
            if "/" in key:
                axes.plot(place, value, "o:", color=colour, markersize=3, linewidth=1, label=key)
            else:
                axes.plot(place, value, color=colour, linewidth=0.4, alpha=0.3)
                axes.plot(place, running_mean(value), color=colour, linewidth=1.3, label=key)
        axes.set_xlabel(axis, fontsize="x-small")
        axes.tick_params(labelsize="x-small")
        axes.grid(color="0.92", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="x-small")
    return figure


def running_mean(value_N: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean of each value and those before it, at most SMOOTHING and at most a tenth of all."""
    width = max(1, min(SMOOTHING, len(value_N) // 10))
    total = np.concatenate([[0.0], np.cumsum(value_N, dtype=np.float64)])
    last = np.arange(1, len(value_N) + 1)
    first = np.maximum(0, last - width)
    return np.asarray((total[last] - total[first]) / (last - first))


def spectrogram_figure(level_FT: NDArray[np.float64], seconds: float, rate: int, top_db: float) -> Figure:
    """A spectrogram; colours run from ``top_db``, common to pictures to be compared, down by RANGE_DB."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        level_FT,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, rate / 2000),
        vmin=top_db - RANGE_DB,
        vmax=top_db,
        cmap="magma",
    )
    axes.tick_params(labelsize="x-small")
    axes.set_ylabel("kHz", fontsize="x-small")
    axes.set_xlabel("seconds", fontsize="x-small")
    return figure


def spectrogram_db(wave_N: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Power [F,T] in dB of 32 ms Hann windows every 8 ms; a tone of amplitude 1 peaks at 0 dB."""
    size, hop = round(0.032 * rate), round(0.008 * rate)
    padded_N = np.pad(wave_N.astype(np.float64), (size // 2, size))
    window_W = np.hanning(size + 1)[:-1]
    frames_TW = np.lib.stride_tricks.sliding_window_view(padded_N, size)[::hop] * window_W
    power_TF = (2 * np.abs(np.fft.rfft(frames_TW)) / window_W.sum()) ** 2
    return np.asarray(10 * np.log10(power_TF.T + 1e-12))


def picture(figure: Figure, words: str) -> str:
    """A figure as an image within the page; ``words`` for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(words, quote=True)}" src="data:image/png;base64,{data}">'


Curves = dict[str, tuple[list[float], list[float]]]
AXES = ("minutes", "step")


def find_log(run: str | Path) -> Path:
    """The log itself, or the newest ``.jsonl`` file in a run's folder.

    Raises:
        SeparativeError: there is none.
    """
    run = Path(run)
    logs = sorted(run.glob("*.jsonl"), key=lambda p: p.stat().st_mtime) if run.is_dir() else [run]
    if not logs or not logs[-1].is_file():
        raise SeparativeError(f"{run}: no training log (.jsonl) there")
    return logs[-1]


def read_curves(path: Path) -> tuple[str, Curves]:
    """Every number of a log against ``minutes`` (or ``step``, where a log has no minutes).

    Returns the name of the horizontal axis and, by key, places and values.

    Raises:
        SeparativeError: a line is not a JSON object; names it. A last line cut short is left out.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise SeparativeError(f"{path}, line {number}: not a JSON object ({error})") from error
        if not isinstance(record, dict):
            raise SeparativeError(f"{path}, line {number}: not a JSON object")
        records.append(record)
    axis = next((a for a in AXES if any(a in r for r in records)), AXES[-1])
    curves: Curves = defaultdict(lambda: ([], []))
    for record in (r for r in records if axis in r):
        for key, value in record.items():
            if key not in AXES and isinstance(value, int | float) and not isinstance(value, bool):
                curves[key][0].append(float(record[axis]))
                curves[key][1].append(float(value))
    return axis, dict(curves)


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
    """EER against the ratio of the target to one other speaker; without any, at the right end."""
    figure, (axes,) = _panels(1, width=6.4, height=3.6)
    places = dict(sorted(sirs.items(), key=lambda item: item[1]))
    marks = {name: f"{sir:+g} dB" if sir else "0 dB" for name, sir in places.items()}
    if clean is not None:
        places[clean] = max(places.values()) + 5
        marks[clean] = "alone"
    _lines(axes, cells, names, places)
    axes.set_xticks(list(places.values()), list(marks.values()))
    axes.set(xlabel="target over the other speaker", ylabel="EER, %", ylim=(0, None))
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
    """Histograms of scores: the same speaker and others, rows down, conditions across."""
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
                (target_N, COLOURS[0], "same speaker"),
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
