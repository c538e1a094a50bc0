"""Tables of result rows: one line per model, one column per condition, the best of each column marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from separative.evaluation.results import LOWER_IS_BETTER, Results, Row, markdown_table, table_title

__all__ = ["Cell", "FigureTable", "Line", "Section", "best_values", "markdown_table", "results_sections"]


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes:
        value: the figure as text.
        interval: its 95 % interval as text, ``low to high``.
        best: whether it is the best of its column.

    >>> Cell("7.3", "5.3 to 10.3", best=True).markdown()
    '**7.3** (5.3 to 10.3)'
    """

    value: str
    interval: str
    best: bool = False

    @staticmethod
    def from_row(row: Row, best: float) -> Cell:
        """The cell of a result row; ``best`` is the best value of its column."""
        value, _, interval = row.cell().partition(" ")
        return Cell(value, interval.strip("()"), best=row.value == best)

    def markdown(self) -> str:
        """The cell in Markdown, in bold if it is the best of its column."""
        return f"**{self.value}** ({self.interval})" if self.best else f"{self.value} ({self.interval})"


@dataclass(frozen=True)
class Line:
    """One line of a table: the cells of a model, a ``note`` in place of cells, or the ``heading`` of a group.

    Attributes:
        name: the model.
        cells: one per column after the first; None where there is no figure.
        note: why there are no figures.
        heading: name of the group of lines that follows.

    >>> Line("ECAPA-TDNN", note="not run").markdown(columns=3)
    ['ECAPA-TDNN', 'not run', '']
    """

    name: str = ""
    cells: Sequence[Cell | None] = ()
    note: str = ""
    heading: str = ""

    def markdown(self, columns: int) -> list[str]:
        """Cells in Markdown, filled up to a number of columns."""
        if self.heading:
            texts = [f"*{self.heading}*"]
        elif self.note:
            texts = [self.name, self.note]
        else:
            texts = [self.name, *("" if cell is None else cell.markdown() for cell in self.cells)]
        return texts + [""] * (columns - len(texts))


@dataclass(frozen=True)
class FigureTable:
    """A table of figures, to be written in Markdown or by the template macro ``figure_table``.

    >>> table = FigureTable(["model", "clean"], [Line("base", [Cell("3.7", "2.4 to 5.9", best=True)])])
    >>> print(table.markdown())
    | model | clean |
    |---|---|
    | base | **3.7** (2.4 to 5.9) |
    """

    header: Sequence[str]
    lines: Sequence[Line]

    @staticmethod
    def from_rows(rows: Sequence[Row]) -> FigureTable:
        """The table of the rows of one metric and corpus: a line per model, a column per condition."""
        conditions = list(dict.fromkeys(row.condition for row in rows))
        best = best_values(rows)
        cells = {(row.model, row.condition): Cell.from_row(row, best[row.condition]) for row in rows}
        models = dict.fromkeys(row.model for row in rows)
        lines = [Line(model, [cells.get((model, condition)) for condition in conditions]) for model in models]
        return FigureTable(["model", *conditions], lines)

    def markdown(self) -> str:
        """The table in Markdown, without a newline at its end."""
        return markdown_table(self.header, [line.markdown(len(self.header)) for line in self.lines])


@dataclass(frozen=True)
class Section:
    """The table of one metric on one corpus, with its title.

    >>> Section("EER", "all", "EER, %", FigureTable(["model"], [])).title
    'EER, %'
    """

    metric: str
    corpus: str
    title: str
    table: FigureTable


def best_values(rows: Iterable[Row]) -> dict[str, float]:
    """By condition, the best value among rows of one metric.

    >>> row = Row("base", "clean", "EER", 3.7, 2.4, 5.9, trials=100, corpus="all", seed=0)
    >>> best_values([row])
    {'clean': 3.7}
    """
    best: dict[str, float] = {}
    for row in rows:
        choose = min if row.metric in LOWER_IS_BETTER else max
        best[row.condition] = choose(best.get(row.condition, row.value), row.value)
    return best


def results_sections(results: Results) -> list[Section]:
    """All rows of an evaluation as tables, one per metric and corpus, in the order of the rows.

    >>> row = Row("base", "clean", "EER", 3.7, 2.4, 5.9, trials=100, corpus="all", seed=0)
    >>> [section.title for section in results_sections(Results((row,)))]
    ['EER, % · within each corpus, all corpora']
    """
    rows_by: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        rows_by.setdefault((row.metric, row.corpus), []).append(row)
    return [
        Section(metric, corpus, table_title(metric, corpus, results.settings), FigureTable.from_rows(rows))
        for (metric, corpus), rows in rows_by.items()
    ]
