"""A model's portrait in pictures: likeness of speakers, a map of them, what the cross-attention looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from separative.metrics import plane
from separative.report.figures import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from separative.evaluation.portrait import Portrait

MARKERS = "osD^vPX<>h*p"


def portrait_html(portrait: Portrait) -> str:
    """The pictures with their words, as a part of a page."""
    count = len(set(portrait.speaker_U))
    parts = [
        "<h2>Who is like whom</h2>",
        f"<p>{count} speakers never trained on, {len(portrait.speaker_U)} recordings, clean: cosines of their"
        " embeddings, and the two directions in which these differ most.</p>",
        picture(likeness_figure(portrait), "Cosines between recordings, ordered by speaker"),
        picture(map_figure(portrait), "Recordings on the first two principal components, by speaker"),
    ]
    if portrait.looked_VV.any():
        own = float(portrait.own_VV.sum(1).mean())
        parts += [
            "<h2>What the cross-attention looks at</h2>",
            "<p>A speaker is heard in every condition, each time in another recording, and all are one memory:"
            " where does the attention of each go? Shares of each row add up to one;"
            f" {own:.0%} of all goes to the speaker's own streams, the rest to interferers.</p>",
            picture(attention_figure(portrait), "Attention from condition to condition"),
        ]
    return "".join(parts)


def likeness_figure(portrait: Portrait) -> Figure:
    """Cosines of all pairs, speakers in a row."""
    from matplotlib.figure import Figure

    order = np.argsort(portrait.speaker_U, kind="stable")
    names = [portrait.speaker_U[i] for i in order]
    cos_UU = portrait.embedding_UE[order] @ portrait.embedding_UE[order].T
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(cos_UU, vmin=-1, vmax=1, cmap="RdBu_r")
    starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    ends = [*starts[1:], len(names)]
    axes.set_xticks([])
    axes.set_yticks(
        [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)],
        [names[a] for a in starts],
        fontsize="x-small",
    )
    for edge in starts[1:]:
        axes.axhline(edge - 0.5, color="white", linewidth=0.6)
        axes.axvline(edge - 0.5, color="white", linewidth=0.6)
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
    return figure


def map_figure(portrait: Portrait) -> Figure:
    """Two principal components, a mark a speaker."""
    from matplotlib.figure import Figure

    place_U2, _ = plane(portrait.embedding_UE)
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.add_subplot()
    colours = [f"C{i}" for i in range(10)]
    for number, name in enumerate(dict.fromkeys(portrait.speaker_U)):
        mine_U2 = place_U2[np.array(portrait.speaker_U) == name]
        axes.scatter(
            mine_U2[:, 0],
            mine_U2[:, 1],
            s=28,
            marker=MARKERS[number % len(MARKERS)],
            color=colours[number % len(colours)],
            label=name,
        )
    axes.set(xticks=[], yticks=[])
    axes.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def attention_figure(portrait: Portrait) -> Figure:
    """Shares of attention, from rows to columns."""
    from matplotlib.figure import Figure

    names = portrait.conditions
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(portrait.looked_VV, vmin=0, cmap="magma")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="x-small")
    axes.set_yticks(range(len(names)), names, fontsize="x-small")
    axes.set_xlabel("heard in", fontsize="small")
    axes.set_ylabel("asked from", fontsize="small")
    figure.colorbar(image, ax=axes, label="share of attention", shrink=0.8)
    return figure
