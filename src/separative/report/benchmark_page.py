"""The page of a benchmark: a table of rows by group and condition, its figures, training and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separative.drawing import render_page
from separative.evaluation.results import Results, Row, table_title
from separative.files import atomic_path, replace_file
from separative.report import benchmark_figures as figures
from separative.report.benchmark_figures import Scores
from separative.report.figures import picture
from separative.report.tables import (
    Cell,
    FigureTable,
    Line,
    best_values,
    markdown_table,
    results_sections,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = {
    "ours": "ours",
    "ablation": "ablations",
    "objective": "baseline objectives",
    "system": "baseline systems",
}
DIFFERENCE = "EER difference"
# Columns of the table of training and cost: heading, value of a row, format.
TRAINING: tuple[tuple[str, Callable[[TableRow], object], str], ...] = (
    ("row", lambda row: row.name, "{}"),
    ("mixtures, s", lambda row: row.mixture_seconds, "{:,.0f}"),
    ("minutes", lambda row: row.minutes, "{:.1f}"),
    ("learning rate", lambda row: row.lr, "{:g}"),
    ("mean EER of the rates tried, %", lambda row: _rates_tried(row), "{}"),
    ("last loss", lambda row: row.loss, "{:.3f}"),
    ("parameters", lambda row: row.parameters, "{:,}"),
    ("multiply-adds per second", lambda row: row.multiply_adds, "{:.2e}"),
    ("real-time factor", lambda row: row.real_time_factor, "{:.3f}"),
    ("memory, MB", lambda row: row.memory_mb, "{:.0f}"),
)


@dataclass(frozen=True)
class TableRow:
    """A row of the benchmark table, without its results.

    Attributes:
        name: as in the plan.
        group: ``ours``, ``ablation``, ``objective`` or ``system``.
        absent: why the row has no results; empty if it has.
        mixture_seconds: seconds of mixtures that it was trained on.
        minutes: time of training.
        lr: learning rate.
        lr_from: name of the row from which the learning rate was taken.
        tried: pairs of a learning rate and its mean EER in %, if the rate was chosen on a grid.
        loss: last training loss.
        parameters: number of parameters.
        multiply_adds: multiply-adds per second of audio.
        real_time_factor: seconds of computing per second of audio.
        memory_mb: peak memory in MB.

    >>> TableRow("ECAPA-TDNN", "system", absent="not run: needs --peer-python").absent
    'not run: needs --peer-python'
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
class BenchmarkTable:
    """Everything that the page of a benchmark shows.

    Attributes:
        heading: title of the page.
        rows: rows of the table in the order of the plan.
        results: all results, of the rows and of their variants.
        facts: pairs of a name and a text: what was compared, on which data, when and how.
        columns: conditions of the main table.
        sirs: signal-to-interference ratio in dB of the conditions with one interferer.
        lengths: by condition, the seconds of each variant of that condition, by the variant's name.
        shown: names of rows in figures that cannot hold all rows.
        scores: by row in ``shown`` and condition, scores of trials and which of them are target trials.

    >>> row = Row("base", "clean", "EER", 3.7, 2.4, 5.9, trials=100, corpus="all", seed=0)
    >>> table = BenchmarkTable("Demo", [TableRow("base", "ours")], Results((row,)), [], ["clean"])
    >>> print(table.main().markdown())
    | row | clean |
    |---|---|
    | *ours* |  |
    | base | **3.7** (2.4 to 5.9) |
    """

    heading: str
    rows: Sequence[TableRow]
    results: Results
    facts: Sequence[tuple[str, str]]
    columns: Sequence[str]
    sirs: Mapping[str, float] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shown: Sequence[str] = ()
    scores: Mapping[str, Scores] = field(default_factory=dict)

    @property
    def corpus(self) -> str:
        """The corpus of the main table; ``all`` if there are several corpora."""
        return self.results.rows[0].corpus

    def cells(self, metric: str) -> dict[tuple[str, str], Row]:
        """Result rows of a metric by row name and condition, on :attr:`corpus`."""
        rows = self.results.rows
        return {(r.model, r.condition): r for r in rows if (r.metric, r.corpus) == (metric, self.corpus)}

    def groups(self) -> list[tuple[str, list[TableRow]]]:
        """Headings of the groups that have rows, with these rows."""
        found = [(heading, [r for r in self.rows if r.group == name]) for name, heading in GROUPS.items()]
        return [(heading, rows) for heading, rows in found if rows]

    def main(self) -> FigureTable:
        """The main table: the EER of every row in every condition, with group headings."""
        cells, names = self.cells("EER"), {row.name for row in self.rows}
        best = best_values(row for row in cells.values() if row.model in names)
        lines = []
        for heading, rows in self.groups():
            lines.append(Line(heading=heading))
            for row in rows:
                found = [] if row.absent else [cells.get((row.name, column)) for column in self.columns]
                shown = [
                    None if cell is None else Cell.from_row(cell, best[cell.condition]) for cell in found
                ]
                lines.append(Line(row.name, shown, note=row.absent))
        return FigureTable(["row", *self.columns], lines)

    def training(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table of training and cost; unknown values are empty."""
        rows = [
            ["" if (value := get(row)) is None else style.format(value) for _, get, style in TRAINING]
            for _, rows in self.groups()
            for row in rows
            if not row.absent
        ]
        return [heading for heading, _, _ in TRAINING], rows


def write_table(folder: Path, table: BenchmarkTable) -> Path:
    """Write ``index.html``, ``results.md`` and the figures as PNG into ``folder``; return the HTML page.

    >>> row = Row("base", "clean", "EER", 3.7, 2.4, 5.9, trials=100, corpus="all", seed=0)
    >>> table = BenchmarkTable("Demo", [TableRow("base", "ours")], Results((row,)), [], ["clean"])
    >>> page = write_table(Path("table"), table)
    >>> sorted(path.name for path in page.parent.iterdir())
    ['index.html', 'results.md']
    """
    drawn = _figures(table)
    for name, (figure, _) in drawn.items():
        with atomic_path(folder / f"{name}.png") as path:
            figure.savefig(path, dpi=150)
    replace_file(folder / "results.md", markdown(table).encode())
    page = render_page(
        "benchmark.html",
        heading=table.heading,
        facts=table.facts,
        main=table.main(),
        pictures=[picture(figure, description) for figure, description in drawn.values()],
        training=table.training(),
        sections=results_sections(table.results),
    )
    replace_file(folder / "index.html", page)
    return folder / "index.html"


def markdown(table: BenchmarkTable) -> str:
    """The whole page as Markdown, without its figures.

    >>> row = Row("base", "clean", "EER", 3.7, 2.4, 5.9, trials=100, corpus="all", seed=0)
    >>> table = BenchmarkTable("Demo", [TableRow("base", "ours")], Results((row,)), [], ["clean"])
    >>> markdown(table).splitlines()[0]
    '# Demo'
    """
    facts = [f"- **{name}**: {text}" for name, text in table.facts]
    main_title = table_title("EER", table.corpus, table.results.settings)
    lines = [f"# {table.heading}", "", *facts, "", f"**{main_title}**", "", table.main().markdown(), ""]
    lines += ["**Training and cost**", "", markdown_table(*table.training())]
    return "\n".join(lines) + "\n\n" + table.results.table()


def _figures(table: BenchmarkTable) -> dict[str, tuple[Figure, str]]:
    """Figures and their titles by file name; figures without data are left out."""
    eers, differences = table.cells("EER"), table.cells(DIFFERENCE)
    drawn: dict[str, tuple[Figure, str]] = {}
    hard: dict[str, Any] = {
        n: scores["overlap0"] for n, scores in table.scores.items() if "overlap0" in scores
    }
    if hard:
        drawn["det"] = figures.det_figure(hard), "Detection error trade-off, one interferer at 0 dB"
    if len(table.sirs) > 1:
        clean = "clean" if "clean" in table.columns else None
        figure = figures.sir_figure(eers, table.shown, table.sirs, clean)
        drawn["sir"] = figure, "EER by signal-to-interference ratio"
    lengths = {name: seconds for name, seconds in table.lengths.items() if len(seconds) > 1}
    if lengths:
        figure = figures.length_figure(eers, table.shown, lengths)
        drawn["length"] = figure, "EER by length of the test recording"
    if table.scores:
        drawn["similarity"] = figures.similarity_figure(table.scores), "Similarity of embeddings"
    for name, groups in (("ablations", ("ablation",)), ("baselines", ("objective", "system"))):
        rows = [row.name for row in table.rows if row.group in groups and not row.absent]
        conditions = [c for c in ("clean", "overlap0", "mixed") if any((r, c) in differences for r in rows)]
        if conditions:
            description = f"{name.capitalize()}: EER minus that of {table.results.settings['against']}"
            drawn[name] = figures.difference_figure(differences, rows, conditions), description
    return drawn


def _rates_tried(row: TableRow) -> str:
    """The learning rates that were tried with their mean EER, or the row that the rate was taken from."""
    tried = ", ".join(f"{lr:g}: {mean:.1f}" for lr, mean in row.tried)
    return tried or (f"rate of {row.lr_from}" if row.lr_from else "")
