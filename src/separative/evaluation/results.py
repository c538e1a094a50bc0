"""Result rows, their tables and their files. Every row has a 95 % interval."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separative.drawing import COLOURS, figure_text
from separative.errors import SeparativeError
from separative.files import atomic_path, read_json, replace_file, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Unit of every metric, in the order of the tables.
UNITS = {
    "EER": "%",
    "EER difference": "%",
    "window EER": "%",
    "window EER, all pairs": "%",
    "window EER difference": "%",
    "minDCF0.01": "",
    "minDCF0.05": "",
    "Cllr": "bits",
    "minCllr": "bits",
    "top-1": "%",
    "top-5": "%",
    "open set": "%",
    "SI-SDRi": "dB",
    "SI-SDR": "dB",
    "SDR": "dB",
    "PESQ": "",
    "STOI": "",
    "DER": "%",
    "DER difference": "points",
    "missed": "%",
    "false alarm": "%",
    "confusion": "%",
    "DER collar": "%",
    "missed collar": "%",
    "false alarm collar": "%",
    "confusion collar": "%",
    "DER speech": "%",
    "missed speech": "%",
    "false alarm speech": "%",
    "overlap found": "%",
    "JER": "%",
    "swaps": "per recording",
    "count error": "speakers",
    "miscounted": "speakers",
    "count right": "%",
    "real-time factor": "",
    "peak memory": "MB",
    "MI": "nats",
    "active streams": "",
    "stream cosine": "",
}
LOWER_IS_BETTER = frozenset(
    {"EER", "EER difference", "window EER", "window EER, all pairs", "window EER difference"}
    | {"DER difference"}
    | {"minDCF0.01", "minDCF0.05", "Cllr", "minCllr"}
    | {"DER", "missed", "false alarm", "confusion", "JER", "swaps", "miscounted", "stream cosine"}
    | {"DER collar", "missed collar", "false alarm collar", "confusion collar"}
    | {"DER speech", "missed speech", "false alarm speech", "real-time factor", "peak memory"}
)
# The metrics that the command line prints.
MAIN_METRICS = ("EER", "SI-SDRi", "DER", "MI")
# Name of all corpora together in the column ``corpus``.
POOLED = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure with its 95 % interval.

    Attributes:
        model: name of the system, as in the tables.
        condition: condition of the test sides.
        metric: name of the metric, one of ``UNITS``.
        value, low, high: the figure and the ends of its interval, in the metric's unit.
        trials: number of trials, sources or embeddings that the figure is computed from.
        corpus: corpus of the trials; ``all`` if trials within several corpora are pooled.
        seed: random seed of the trials.

    >>> Row("csc", "clean", "EER", 8.04, 6.0, 11.06, 100, "all", 0).cell()
    '8.0 (6.0 to 11.1)'
    """

    model: str
    condition: str
    metric: str
    value: float
    low: float
    high: float
    trials: int
    corpus: str
    seed: int

    def cell(self) -> str:
        """The figure and its interval as text, for tables."""
        digits = 1 if UNITS.get(self.metric) in ("%", "dB") else 2
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Results:
    """The rows of one evaluation, and its settings.

    >>> results = Results((Row("csc", "clean", "EER", 8.04, 6.0, 11.06, 100, "all", 0),))
    >>> results.find("EER", "clean").value
    8.04
    >>> print(results.table())
    **EER, % · within each corpus, all corpora**
    <BLANKLINE>
    | model | clean |
    |---|---|
    | csc | 8.0 (6.0 to 11.1) |
    <BLANKLINE>
    """

    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def find(
        self, metric: str, condition: str, *, model: str | None = None, corpus: str | None = None
    ) -> Row:
        """Return one row, by default of the first model and over all corpora.

        Raises:
            SeparativeError: there is no such row.
        """
        model = model or self.rows[0].model
        corpus = corpus or self.rows[0].corpus
        for row in self.rows:
            if (row.metric, row.condition, row.model, row.corpus) == (metric, condition, model, corpus):
                return row
        raise SeparativeError(
            f"the results have no {metric} of '{model}' in '{condition}' on corpus '{corpus}'"
        )

    def table(self, metrics: Collection[str] | None = None) -> str:
        """Return Markdown tables: one per metric and corpus, with a row per model and a column per condition.

        ``metrics``: show only these metrics.
        """
        blocks = []
        for metric in _order(r.metric for r in self.rows if metrics is None or r.metric in metrics):
            for corpus in _order(row.corpus for row in self.rows if row.metric == metric):
                rows = [row for row in self.rows if (row.metric, row.corpus) == (metric, corpus)]
                blocks.append(f"**{table_title(metric, corpus, self.settings)}**\n\n{_table(rows)}")
        return "\n\n".join(blocks) + "\n"

    def save(
        self, folder: str | Path, *, text: str | None = None, figures: Mapping[str, Figure] | None = None
    ) -> Path:
        """Write ``results.json``, ``results.md`` and figures into ``folder``; return the first path.

        Args:
            text: content of ``results.md``, by default the tables.
            figures: by file name, by default ``eer.png``, see :func:`eer_figure`.
        """
        folder = Path(folder)
        record = {"settings": self.settings, "rows": [asdict(row) for row in self.rows]}
        for name, figure in ({"eer.png": eer_figure(self)} if figures is None else figures).items():
            with atomic_path(folder / name) as temporary:
                figure.savefig(temporary, dpi=200)
        replace_file(folder / "results.md", (self.table() if text is None else text).encode())
        write_json(folder / "results.json", record)
        return folder / "results.json"

    @staticmethod
    def load(path: str | Path) -> Results:
        """Read ``results.json``, given the file or its folder.

        Raises:
            SeparativeError: the file is missing or damaged.
        """
        path = Path(path)
        path = path / "results.json" if path.is_dir() else path
        try:
            # A table of a thousand systems takes a few megabytes.
            record = read_json(path, limit=256 << 20)
            rows, settings = record["rows"], record["settings"]
            if not isinstance(rows, list) or not isinstance(settings, dict):
                raise ValueError("'rows' must be a list, and 'settings' have keys")
            return Results(tuple(map(_parse_row, rows)), settings)
        except (ValueError, KeyError, TypeError) as error:
            raise SeparativeError(f"{path}: not a file of evaluation results ({error})") from error


def _parse_row(record: dict[str, Any]) -> Row:
    """A row from its record in ``results.json``.

    Raises:
        TypeError: an entry is missing, unknown or of the wrong type.
    """
    row = Row(**record)
    kinds: dict[str, type | tuple[type, ...]] = {
        "value": (int, float),
        "low": (int, float),
        "high": (int, float),
    }
    kinds |= {"trials": int, "seed": int}
    for key, value in record.items():
        kind = kinds.get(key, str)
        large = isinstance(value, int) and abs(value) >= 2**63
        if not isinstance(value, kind) or isinstance(value, bool) or large:
            raise TypeError(f"'{key}' of a row has an invalid value")
    return row


def table_title(metric: str, corpus: str, settings: dict[str, Any]) -> str:
    """Heading of a table: metric, unit, corpus and, for the information bound, its largest possible value.

    >>> table_title("EER", "all", {})
    'EER, % · within each corpus, all corpora'
    """
    unit = f", {UNITS[metric]}" if UNITS.get(metric) else ""
    ceiling = f", at most {settings['mi_ceiling']:.2f}" if metric == "MI" and "mi_ceiling" in settings else ""
    # The inventory of the bound has the speakers of all corpora, so the corpus of a speaker adds information.
    pooled = "speakers of all corpora together" if metric == "MI" else "within each corpus, all corpora"
    return f"{metric}{unit}{ceiling} · {pooled if corpus == POOLED else corpus}"


def _order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _table(rows: list[Row]) -> str:
    conditions = _order(row.condition for row in rows)
    cells = {(row.model, row.condition): row.cell() for row in rows}
    models = _order(row.model for row in rows)
    return markdown_table(
        ["model", *conditions],
        [[model, *(cells.get((model, c), "") for c in conditions)] for model in models],
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without a newline at its end.

    >>> print(markdown_table(["model", "EER, %"], [["base", "3.7"]]))
    | model | EER, % |
    |---|---|
    | base | 3.7 |
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


# One marker per system, in the order of the colours.
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
# Share of the space between two conditions over which the marks of the models are spread.
SPREAD = 0.5


def eer_figure(results: Results, corpus: str | None = None) -> Figure:
    """Draw the EER of the systems by condition, without derived rows such as normalised scores.

    ``corpus``: by default that of the first row.

    >>> results = Results((Row("csc", "clean", "EER", 8.04, 6.0, 11.06, 100, "all", 0),))
    >>> [label.get_text() for label in eer_figure(results).axes[0].get_xticklabels()]
    ['clean']
    """
    from matplotlib.figure import Figure

    corpus = corpus or results.rows[0].corpus
    rows = [row for row in results.rows if row.metric == "EER" and row.corpus == corpus]
    conditions = list(dict.fromkeys(row.condition for row in rows))
    models = results.settings.get("rows") or list(dict.fromkeys(row.model for row in rows))
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for number, model in enumerate(models):
        by_condition = {row.condition: row for row in rows if row.model == model}
        shown = [by_condition[name] for name in conditions if name in by_condition]
        shift = SPREAD * ((number + 0.5) / len(models) - 0.5)
        axes.errorbar(
            [place + shift for place, name in enumerate(conditions) if name in by_condition],
            [row.value for row in shown],
            yerr=[
                # A percentile interval does not always contain the estimate.
                [max(0.0, row.value - row.low) for row in shown],
                [max(0.0, row.high - row.value) for row in shown],
            ],
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            capsize=2.5,
            linewidth=1.2,
            label=figure_text(model),
        )
    axes.axhline(50, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(conditions)), [figure_text(name) for name in conditions])
    axes.set_ylim(0, 56)
    axes.set_ylabel("equal error rate, %")
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize="small")
    return figure
