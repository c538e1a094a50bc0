"""The page and the figure of an evaluation on real recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.drawing import COLOURS, figure_text
from separative.evaluation.recording_rows import ALL_RECORDINGS, BY_RECORDING
from separative.evaluation.results import POOLED, UNITS, Results, Row, markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Columns of the tables of systems, and of recordings.
COLUMNS = (
    *("DER", "missed", "false alarm", "confusion", "DER collar", "JER", "DER speech", "overlap found"),
    *("count right", "count error", "window EER", "window EER, all pairs", "real-time factor", "peak memory"),
)
RECORDING_COLUMNS = ("DER", "missed", "false alarm", "confusion", "DER speech", "overlap found", "window EER")
# Metrics with intervals in the tables; all intervals are in results.json.
WITH_INTERVAL = ("DER", "JER", "window EER")
PARTS = ("missed", "false alarm", "confusion")
# Systems drawn in the figure, and the least length of its axis in percent.
MAX_PANELS, LEAST_TOP = 6, 50.0

NOTES = """\
Overlap is scored, and there is no collar; *DER collar* leaves out 0.25 s around the start and end of every
turn. *DER speech* compares speech with silence, whoever speaks. *Overlap found* is the share of overlapped
time in which two or more speakers were found. *Count error* is the number of speakers found minus the true
one. *Window EER* compares windows of 2 s in which one speaker speaks, within each recording; *all pairs* adds
those of different recordings whose speakers have different names, which the recordings help to tell apart.
*Real-time factor* is seconds of computing per second of audio; *peak memory* is that of the process, the
largest of all recordings. Rows with a comma know a part of the reference. 95 % intervals are over recordings,
if there are several."""


def recordings_page(results: Results, *, figure: str | None = None) -> str:
    """The page in Markdown: a table over all recordings, one per kind, and one per system by recording.

    Args:
        results: of :func:`separative.evaluation.evaluate_recordings`.
        figure: address of the picture of :func:`recordings_figure`, if the page shows it.

    >>> row = Row("base", "all recordings", "DER", 39.9, 30.0, 50.0, 9, "all", 0)
    >>> page = recordings_page(Results((row,), {"systems": ["base"]}))
    >>> page.splitlines()[-1]
    '| base | 9 | 39.9 (30.0 to 50.0) |'
    """
    settings = results.settings
    lines = ["# Real recordings", ""]
    if "made" in settings:
        command = f"Command: `{settings['command']}`. " if "command" in settings else ""
        lines += [
            f"{command}Measured {settings['made']} on {settings['machine']}; seed {settings['seed']}.",
            "",
        ]
    lines += [NOTES, ""]
    if figure is not None:
        lines += [f"![Parts of the diarization error of each recording]({figure})", ""]
    if failed := settings.get("failed"):
        lines += ["Not scored:", "", *(f"- {sentence}" for sentence in failed), ""]
    conditions = dict.fromkeys(row.condition for row in results.rows if row.corpus == POOLED)
    for condition in conditions:
        lines += [f"## {condition.capitalize()}", "", systems_table(results, condition), ""]
    for system in settings.get("systems", ()):
        if any(row.model == system and row.corpus == BY_RECORDING for row in results.rows):
            described = settings.get("recordings", ())
            lines += [
                f"## By recording: {system}",
                "",
                _recordings_table(results.rows, system, described),
                "",
            ]
    return "\n".join(lines)


def systems_table(results: Results, condition: str = ALL_RECORDINGS) -> str:
    """The table of one kind of recordings in Markdown: a line per system, a column per metric.

    >>> row = Row("base", "meeting", "peak memory", 512.3, 512.3, 512.3, 9, "all", 0)
    >>> print(systems_table(Results((row,)), "meeting"))
    | meeting | recordings | peak memory, MB |
    |---|---|---|
    | base | 9 | 512 |
    """
    found = {(r.model, r.metric): r for r in results.rows if (r.condition, r.corpus) == (condition, POOLED)}
    columns = [metric for metric in COLUMNS if any(metric == key[1] for key in found)]
    lines = []
    for model in dict.fromkeys(key[0] for key in found):
        cells = [_cell(found.get((model, metric)), interval=metric in WITH_INTERVAL) for metric in columns]
        lines.append([model, str(_count(found, model)), *cells])
    return markdown_table([condition, "recordings", *map(_heading, columns)], lines)


def _recordings_table(rows: Sequence[Row], system: str, described: Sequence[Mapping[str, Any]]) -> str:
    """A line per recording of one system."""
    found = {(r.condition, r.metric): r for r in rows if (r.model, r.corpus) == (system, BY_RECORDING)}
    lines = []
    for recording in described:
        name = recording["name"]
        if (name, "count error") not in found:
            continue
        speakers = recording["speakers"] + round(found[name, "count error"].value)
        cells = [_cell(found.get((name, metric)), interval=False) for metric in RECORDING_COLUMNS]
        facts = [f"{recording['seconds']:.0f}", f"{recording['speech']:.0f}", str(recording["speakers"])]
        lines.append([name, recording["kind"], *facts, str(speakers), *cells])
    header = [f"{system}, by recording", "kind", "seconds", "with speech", "speakers", "found"]
    return markdown_table([*header, *map(_heading, RECORDING_COLUMNS)], lines)


def _count(found: Mapping[tuple[str, str], Row], model: str) -> int:
    """Number of recordings in the rows of a system."""
    return next(row.trials for key, row in found.items() if key[0] == model and key[1] != "window EER")


def _heading(metric: str) -> str:
    return (
        f"{metric}, {UNITS[metric]}" if UNITS[metric] in ("%", "MB") and metric != "count right" else metric
    )


def _cell(row: Row | None, *, interval: bool) -> str:
    if row is None:
        return "–"
    if row.metric == "peak memory":
        return f"{row.value:.0f}"
    if row.metric == "count right":
        return f"{round(row.value / 100 * row.trials)} of {row.trials}"
    return row.cell() if interval and row.trials > 1 and row.low < row.high else row.cell().partition(" ")[0]


def recordings_figure(results: Results) -> Figure:
    """Draw the parts of the DER of each recording as stacked bars, with a panel for each system.

    >>> rows = [Row("base", "a", part, 10.0, 10.0, 10.0, 1, BY_RECORDING, 0) for part in PARTS]
    >>> axes = recordings_figure(Results(tuple(rows), {"systems": ["base"]})).axes[0]
    >>> [label.get_text() for label in axes.get_xticklabels()]
    ['a']
    """
    from matplotlib.figure import Figure

    rows = [row for row in results.rows if row.corpus == BY_RECORDING]
    value = {(row.model, row.condition, row.metric): row.value for row in rows}
    names = list(dict.fromkeys(row.condition for row in rows))
    systems = results.settings["systems"][:MAX_PANELS]
    top = LEAST_TOP
    height = 0.8 + 2.2 * len(systems)
    figure = Figure(figsize=(max(6.4, 0.45 * len(names) + 1.5), height), layout="constrained")
    panels = figure.subplots(len(systems), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, system in zip(panels, systems, strict=True):
        bottom_N = np.zeros(len(names))
        for part, colour in zip(PARTS, COLOURS, strict=False):
            part_N = np.array([value.get((system, name, part), 0.0) for name in names])
            axes.bar(range(len(names)), part_N, bottom=bottom_N, color=colour, width=0.7, label=part)
            bottom_N += part_N
        top = max(top, float(bottom_N.max(initial=0.0)))
        axes.set_title(figure_text(system), fontsize="medium", loc="left")
        axes.set_ylabel("DER, %")
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, 1.05 * top)
    panels[-1].set_xticks(range(len(names)), [figure_text(name) for name in names], rotation=30, ha="right")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    return figure
