"""EER by condition with intervals; systems told apart in colour, in grey and by colour-blind eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from separative.evaluation.results import Results

# Okabe and Ito's palette, darkest first.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
SPREAD = 0.5


def eer_figure(results: Results, corpus: str | None = None) -> Figure:
    """A figure of the EER over ``corpus`` (by default that of the first row), without rows made of others."""
    from matplotlib.figure import Figure

    corpus = corpus or results.rows[0].corpus
    rows = [row for row in results.rows if row.metric == "EER" and row.corpus == corpus]
    conditions = list(dict.fromkeys(row.condition for row in rows))
    models = results.settings.get("rows") or list(dict.fromkeys(row.model for row in rows))
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for number, model in enumerate(models):
        mine = {row.condition: row for row in rows if row.model == model}
        shift = SPREAD * ((number + 0.5) / len(models) - 0.5)
        axes.errorbar(
            [place + shift for place, name in enumerate(conditions) if name in mine],
            [mine[name].value for name in conditions if name in mine],
            yerr=[
                # A percentile interval need not hold the estimate.
                [max(0.0, mine[n].value - mine[n].low) for n in conditions if n in mine],
                [max(0.0, mine[n].high - mine[n].value) for n in conditions if n in mine],
            ],
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            capsize=2.5,
            linewidth=1.2,
            label=model,
        )
    axes.axhline(50, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(conditions)), conditions)
    axes.set_ylim(0, 56)
    axes.set_ylabel("equal error rate, %")
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize="small")
    return figure
