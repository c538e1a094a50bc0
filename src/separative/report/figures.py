"""Figures of a report: training curves and spectrograms; encoding of figures for HTML pages.

All figures are built with Matplotlib's object-oriented interface, so that no global state is touched.
"""

from __future__ import annotations

import base64
import io
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from separative.drawing import COLOURS, figure_text
from separative.errors import SeparativeError
from separative.files import parse_json, read_lines
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = dict[str, tuple[list[float], list[float]]]
"""Curves of a training log by key: positions on the horizontal axis, and values."""

# Possible horizontal axes of training curves, best first.
AXES = ("minutes", "step")
# Keys of a training log with one of these words are not learning curves.
SKIPPED = ("lr", "epoch", "threads", "eta", "seconds", "rate", "memory", "wait", "grad")
# Larger numbers are left out: the ticks of an axis cannot be computed for them.
LARGEST_SHOWN = 1e30
# Most values in a running mean.
SMOOTHING = 50
# Range of levels shown in a spectrogram.
RANGE_DB = 70.0


class Picture(NamedTuple):
    """A figure encoded for an HTML page: a data URL, and a description for readers who cannot see it.

    >>> Picture("data:image/png;base64,...", "Training curves").description
    'Training curves'
    """

    url: str
    description: str


def picture(figure: Figure, description: str) -> Picture:
    """Encode a figure as PNG in a data URL.

    >>> picture(curves_figure("step", {"loss": ([0.0, 1.0], [3.0, 2.0])}), "Training curves").url[:22]
    'data:image/png;base64,'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/png;base64,{data}", description)


def find_log(run: str | Path) -> Path:
    """Find the training log: ``run`` itself if it is a file, or the newest ``.jsonl`` file in that folder.

    Raises:
        SeparativeError: there is no log.

    >>> _ = Path("log.jsonl").write_text('{"step": 1, "loss": 3.0}')
    >>> find_log(".").name
    'log.jsonl'
    """
    run = Path(run)
    logs = sorted(run.glob("*.jsonl"), key=lambda p: p.stat().st_mtime) if run.is_dir() else [run]
    if not logs or not logs[-1].is_file():
        raise SeparativeError(f"{run}: no training log (.jsonl) found")
    return logs[-1]


def read_curves(path: Path) -> tuple[str, Curves]:
    """Read every number of a training log in JSON lines.

    An incomplete last line is ignored: the run may have been stopped while writing it. Numbers that are not
    finite, or too large for a figure, are left out.

    Returns:
        The name of the horizontal axis (``minutes``, or ``step`` if the log has no minutes), and the curves.

    Raises:
        SeparativeError: the file is not UTF-8 text, or a line is not a JSON object or has a text as its step
            or minutes; names the file and the line.

    >>> _ = Path("log.jsonl").write_text('{"step": 1, "loss": 3.0}\\n{"step": 2, "loss": 2.5}\\n')
    >>> read_curves(Path("log.jsonl"))
    ('step', {'loss': ([1.0, 2.0], [3.0, 2.5])})
    """
    lines = read_lines(path)
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            record = parse_json(line, where)
        except SeparativeError:
            if number == len(lines) and not _ends_with_newline(path):
                break
            raise
        if not isinstance(record, dict):
            raise SeparativeError(f"{where}: not a JSON object")
        for key in AXES:
            if key in record and not _is_number(record[key]):
                raise SeparativeError(f"{where}: '{key}' must be a number")
        records.append(record)
    axis = next((a for a in AXES if any(a in r for r in records)), AXES[-1])
    curves: Curves = defaultdict(lambda: ([], []))
    for record in (r for r in records if axis in r):
        for key, value in record.items():
            if key not in AXES and _is_number(value):
                curves[key][0].append(float(record[axis]))
                curves[key][1].append(float(value))
    return axis, dict(curves)


def _is_number(value: object) -> bool:
    """Whether a value is a number that a figure can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_SHOWN


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def curve_panels(curves: Curves) -> dict[str, list[str]]:
    """Group curves into panels, one per quantity: the first word of the key, ``csc`` for ``csc_query``.

    A validation key (``valid/csc_clean``) belongs to the panel of its quantity.

    >>> curve_panels({"csc_query": ([], []), "valid/csc_query": ([], []), "lr": ([], [])})
    {'csc': ['csc_query', 'valid/csc_query']}
    """
    panels: dict[str, list[str]] = {}
    for key in curves:
        quantity = key.rpartition("/")[2]
        if not any(word in quantity.lower() for word in SKIPPED):
            panels.setdefault(quantity.split("_")[0], []).append(key)
    return panels


def curves_figure(axis: str, curves: Curves) -> Figure:
    """Draw training curves, one panel per quantity.

    Training values are faint, with their running mean on top. Validation values are dotted.

    >>> figure = curves_figure("step", {"loss": ([0.0, 1.0], [3.0, 2.0]), "csc": ([0.0], [5.0])})
    >>> len(figure.axes)
    2
    """
    from matplotlib.figure import Figure

    panels = curve_panels(curves)
    columns = min(3, max(1, len(panels)))
    rows = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    for number, keys in enumerate(panels.values()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for key, colour in zip(keys, COLOURS * len(keys), strict=False):
            place, value = (np.array(x) for x in curves[key])
            # A label that starts with an underscore would not be in the legend.
            name = figure_text(key).lstrip("_") or "-"
            if "/" in key:
                axes.plot(place, value, "o:", color=colour, markersize=3, linewidth=1, label=name)
            else:
                axes.plot(place, value, color=colour, linewidth=0.4, alpha=0.3)
                axes.plot(place, running_mean(value), color=colour, linewidth=1.3, label=name)
        axes.set_xlabel(axis, fontsize="x-small")
        axes.tick_params(labelsize="x-small")
        axes.grid(color="0.92", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper right", frameon=False, fontsize="x-small")
    return figure


def running_mean(values: Floats) -> NDArray[np.float64]:
    """Mean of each value and the values before it, shape [N].

    The window has at most ``SMOOTHING`` values and at most a tenth of all values.

    >>> running_mean(np.arange(30.0))[:4].tolist()
    [0.0, 0.5, 1.0, 2.0]
    """
    width = max(1, min(SMOOTHING, len(values) // 10))
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - width)
    return np.asarray((total[last] - total[first]) / (last - first))


def spectrogram_db(waveform: Wave, rate: int) -> NDArray[np.float64]:
    """Power spectrogram in dB, shape [F, T], from Hann windows of 32 ms every 8 ms.

    A sine of amplitude 1 peaks at 0 dB.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    >>> level = spectrogram_db(tone.astype(np.float32), 8000)
    >>> level.shape[0], int(level[:, 50].argmax()), round(level.max())
    (129, 32, 0)
    """
    size, hop = round(0.032 * rate), round(0.008 * rate)
    padded_N = np.pad(waveform.astype(np.float64), (size // 2, size))
    window_W = np.hanning(size + 1)[:-1]
    frames_TW = np.lib.stride_tricks.sliding_window_view(padded_N, size)[::hop] * window_W
    power_TF = (2 * np.abs(np.fft.rfft(frames_TW)) / window_W.sum()) ** 2
    return np.asarray(10 * np.log10(power_TF.T + 1e-12))


def spectrogram_figure(level: Floats, seconds: float, rate: int, top_db: float) -> Figure:
    """Draw a spectrogram; colours run from ``top_db`` down by ``RANGE_DB``.

    Use the same ``top_db`` for spectrograms that are compared with one another.

    >>> figure = spectrogram_figure(np.zeros((129, 100)), 0.8, 8000, top_db=0.0)
    >>> figure.axes[0].get_ylabel()
    'kHz'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        level,
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
