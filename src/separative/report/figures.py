"""The page's pictures: training curves and spectrograms. Object-oriented Matplotlib: no global state."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.report.log import Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANGE_DB = 70.0
SMOOTHING = 50
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
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
