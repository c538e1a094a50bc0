"""The page of the table that the project exists for: rows by group, conditions across, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from separative.evaluation.results import Results, Row, title
from separative.files import atomic_path, replace_file
from separative.report import figures
from separative.report.figures import picture
from separative.report.page import html_table, whole_page
from separative.types import Floats

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Scores = Mapping[str, tuple[Floats, NDArray[np.bool_]]]

GROUPS = {"ours": "ours", "ablation": "ablations", "objective": "rival objectives", "system": "rival systems"}
DIFFERENCE = "EER difference"


@dataclass(frozen=True)
class Entry:
    """A row of the table apart from its figures; ``absent`` says why it has none.

    ``tried``: learning rates with the error they were chosen by; ``lr_from``: the row whose choice this one
    took. ``multiply_adds`` for a second of audio; ``minutes`` of training.
    """

    name: str
    group: str
    absent: str = ""
    mixture_seconds: float | None = None
    minutes: float | None = None
    lr: float | None = None
    lr_from: str = ""
    tried: tuple[tuple[float, float], ...] = ()
    loss: float | None = None
    parameters: int | None = None
    multiply_adds: float | None = None
    real_time_factor: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True)
class Table:
    """All that the page shows.

    Attributes:
        heading, facts: the title; what, on what, when and how, as (name, words).
        entries: the rows in the plan's order.
        results: rows of figures, of entries and of their variants.
        columns: conditions of the main table.
        sirs: conditions with one other speaker by their ratio in dB.
        lengths: by condition, the names of that condition at several lengths in seconds.
        shown: rows in figures that cannot hold all; ``scores`` of these rows by condition.
    """

    heading: str
    entries: Sequence[Entry]
    results: Results
    facts: Sequence[tuple[str, str]]
    columns: Sequence[str]
    sirs: Mapping[str, float] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shown: Sequence[str] = ()
    scores: Mapping[str, Scores] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The trials of the main table: those of all corpora, where there are several."""
        return self.results.rows[0].corpus

    def cells(self, metric: str) -> dict[tuple[str, str], Row]:
        """By row and condition, over all corpora."""
        rows = self.results.rows
        return {(r.model, r.condition): r for r in rows if (r.metric, r.corpus) == (metric, self.place)}

    def groups(self) -> list[tuple[str, list[Entry]]]:
        found = [(words, [e for e in self.entries if e.group == name]) for name, words in GROUPS.items()]
        return [(words, entries) for words, entries in found if entries]


def write_table(folder: Path, table: Table) -> Path:
    """Write ``index.html``, ``results.md`` and the figures as PNG into ``folder``; returns the page."""
    drawn = _figures(table)
    for name, (figure, _) in drawn.items():
        with atomic_path(folder / f"{name}.png") as beside:
            figure.savefig(beside, dpi=150)
    replace_file(folder / "results.md", markdown(table).encode())
    replace_file(folder / "index.html", _page(table, drawn).encode())
    return folder / "index.html"


def markdown(table: Table) -> str:
    """The main table, what rows were trained with, and every other figure."""
    columns = list(table.columns)
    lines = [f"# {table.heading}", ""]
    lines += [f"- **{name}**: {words}" for name, words in table.facts]
    lines += ["", f"**{title('EER', table.place, table.results.settings)}**", ""]
    lines += ["| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    cells, best = table.cells("EER"), _best(table)
    for words, entries in table.groups():
        lines.append(f"| *{words}* |" + " |" * len(columns))
        for entry in entries:
            if entry.absent:
                lines.append(f"| {entry.name} | {entry.absent} |" + " |" * (len(columns) - 1))
                continue
            some = [cells.get((entry.name, column)) for column in columns]
            shown = ["" if c is None else _bold(c, best) for c in some]
            lines.append(f"| {entry.name} | " + " | ".join(shown) + " |")
    heads, rows = _training(table)
    lines += ["", "**Training and cost**", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n\n" + table.results.table()


def _bold(row: Row, best: Mapping[str, float]) -> str:
    value, _, between = row.cell().partition(" ")
    return f"**{value}** {between}" if row.value == best[row.condition] else row.cell()


def _best(table: Table) -> dict[str, float]:
    names = {entry.name for entry in table.entries}
    best: dict[str, float] = {}
    for (model, condition), row in table.cells("EER").items():
        if model in names:
            best[condition] = min(best.get(condition, row.value), row.value)
    return best


def _figures(table: Table) -> dict[str, tuple[Figure, str]]:
    """By file name, figures and their titles; only those there are figures for."""
    eers, differences = table.cells("EER"), table.cells(DIFFERENCE)
    drawn: dict[str, tuple[Figure, str]] = {}
    hard = {name: scores["overlap0"] for name, scores in table.scores.items() if "overlap0" in scores}
    if hard:
        drawn["det"] = figures.det_figure(hard), "Detection error trade-off, one other speaker as loud"
    if len(table.sirs) > 1:
        clean = "clean" if "clean" in table.columns else None
        figure = figures.sir_figure(eers, table.shown, table.sirs, clean)
        drawn["sir"] = figure, "EER against the other speaker's level"
    lengths = {name: steps for name, steps in table.lengths.items() if len(steps) > 1}
    if lengths:
        drawn["length"] = figures.length_figure(eers, table.shown, lengths), "EER against the test's length"
    if table.scores:
        drawn["similarity"] = figures.similarity_figure(table.scores), "Similarity of embeddings"
    for name, groups in (("ablations", ("ablation",)), ("rivals", ("objective", "system"))):
        rows = [e.name for e in table.entries if e.group in groups and not e.absent]
        conditions = [c for c in ("clean", "overlap0", "mixed") if any((r, c) in differences for r in rows)]
        if conditions:
            words = f"{name.capitalize()}: EER minus that of {table.results.settings['against']}"
            drawn[name] = figures.difference_figure(differences, rows, conditions), words
    return drawn


def _page(table: Table, drawn: Mapping[str, tuple[Figure, str]]) -> str:
    facts = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(words)}</td></tr>" for name, words in table.facts
    )
    parts = [f'<table class="facts">{facts}</table>', "<h2>Equal error rate, %</h2>", _main(table)]
    parts.append(
        "<p>Best of each column in bold; below each figure its 95 % interval. All trials are within one "
        "corpus; no system is told which speaker to listen for.</p>"
    )
    for figure, words in drawn.values():
        parts.append(f"<h2>{escape(words)}</h2>{picture(figure, words)}")
    heads, rows = _training(table)
    parts.append(f"<h2>Training and cost</h2>{_plain(heads, rows)}")
    parts.append(
        "<p>Real-time factors of rival systems include starting their program, and were taken while others "
        "computed.</p><h2>Every figure</h2>"
    )
    for (metric, corpus), some in _sections(table).items():
        words = escape(title(metric, corpus, table.results.settings))
        parts.append(f"<details><summary>{words}</summary>{html_table(some)}</details>")
    return whole_page(table.heading, "".join(parts))


def _main(table: Table) -> str:
    cells, best = table.cells("EER"), _best(table)
    width = len(table.columns) + 1
    lines = ["<tr><th></th>" + "".join(f"<th>{escape(c)}</th>" for c in table.columns) + "</tr>"]
    for words, entries in table.groups():
        lines.append(f'<tr><th class="group" colspan="{width}">{escape(words)}</th></tr>')
        for entry in entries:
            if entry.absent:
                why = f'<td class="absent" colspan="{width - 1}">{escape(entry.absent)}</td>'
                lines.append(f"<tr><td>{escape(entry.name)}</td>{why}</tr>")
                continue
            some = [cells.get((entry.name, column)) for column in table.columns]
            lines.append(f"<tr><td>{escape(entry.name)}</td>{''.join(_cell(row, best) for row in some)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _cell(row: Row | None, best: Mapping[str, float]) -> str:
    if row is None:
        return "<td></td>"
    value, _, between = row.cell().partition(" ")
    value = f"<b>{value}</b>" if row.value == best[row.condition] else value
    return f"<td>{value}<small>{between.strip('()')}</small></td>"


def _training(table: Table) -> tuple[list[str], list[list[str]]]:
    heads = [
        "row",
        "mixtures, s",
        "minutes",
        "learning rate",
        "tried: mean EER, %",
        "last loss",
        "parameters",
    ]
    heads += ["multiply-adds per second", "real-time factor", "memory, MB"]
    shape: tuple[tuple[Callable[[Entry], object], str], ...] = (
        (lambda e: e.mixture_seconds, "{:,.0f}"),
        (lambda e: e.minutes, "{:.1f}"),
        (lambda e: e.lr, "{:g}"),
    )
    more: tuple[tuple[Callable[[Entry], object], str], ...] = (
        (lambda e: e.loss, "{:.3f}"),
        (lambda e: e.parameters, "{:,}"),
        (lambda e: e.multiply_adds, "{:.2e}"),
        (lambda e: e.real_time_factor, "{:.3f}"),
        (lambda e: e.memory_mb, "{:.0f}"),
    )
    rows = []
    for entry in (entry for _, entries in table.groups() for entry in entries if not entry.absent):
        tried = ", ".join(f"{lr:g}: {mean:.1f}" for lr, mean in entry.tried)
        tried = tried or (f"that of {entry.lr_from}" if entry.lr_from else "")
        rows.append([entry.name, *_formatted(entry, shape), tried, *_formatted(entry, more)])
    return heads, rows


def _formatted(entry: Entry, shape: Sequence[tuple[Callable[[Entry], object], str]]) -> list[str]:
    return ["" if (value := get(entry)) is None else words.format(value) for get, words in shape]


def _plain(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _sections(table: Table) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in table.results.rows:
        found.setdefault((row.metric, row.corpus), []).append(row)
    return found
