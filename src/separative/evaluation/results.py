"""Result rows, their tables and files (protocol: no row without its interval)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separative.errors import SeparativeError
from separative.files import atomic_path, replace_file, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# In the order of the tables.
UNITS = {
    "EER": "%",
    "EER difference": "%",
    "window EER": "%",
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
    "JER": "%",
    "swaps": "a recording",
    "miscounted": "speakers",
    "count right": "%",
    "MI": "nats",
    "active streams": "",
    "stream cosine": "",
}
LOWER_IS_BETTER = frozenset(
    {"EER", "EER difference", "window EER", "window EER difference", "DER difference"}
    | {"minDCF0.01", "minDCF0.05", "Cllr", "minCllr"}
    | {"DER", "missed", "false alarm", "confusion", "JER", "swaps", "miscounted", "stream cosine"}
)
# What most readers look for first.
MAIN = ("EER", "SI-SDRi", "DER", "MI")
POOLED = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ``low`` to ``high`` is its 95 % interval; units as in ``UNITS``.

    ``trials``: how many trials, sources or embeddings it rests on. ``corpus`` is ``all`` for trials within
    several corpora taken together.
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
        digits = 1 if UNITS.get(self.metric) in ("%", "dB") else 2
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Results:
    """All rows of one evaluation and the ``settings`` that made it."""

    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def find(
        self, metric: str, condition: str, *, model: str | None = None, corpus: str | None = None
    ) -> Row:
        """The one row asked for: by default of the first model, over all corpora.

        Raises:
            SeparativeError: there is no such row.
        """
        model = model or self.rows[0].model
        corpus = corpus or self.rows[0].corpus
        for row in self.rows:
            if (row.metric, row.condition, row.model, row.corpus) == (metric, condition, model, corpus):
                return row
        raise SeparativeError(f"no {metric} of '{model}' for '{condition}' on '{corpus}' among the results")

    def table(self, metrics: Collection[str] | None = None) -> str:
        """Markdown: one table per metric and corpus, a row per model, a column per condition.

        ``metrics``: only these, where there are any of them.
        """
        blocks = []
        for metric in _order(r.metric for r in self.rows if metrics is None or r.metric in metrics):
            for corpus in _order(row.corpus for row in self.rows if row.metric == metric):
                some = [row for row in self.rows if (row.metric, row.corpus) == (metric, corpus)]
                blocks.append(f"**{title(metric, corpus, self.settings)}**\n\n{_table(some)}")
        return "\n\n".join(blocks) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``results.md`` and ``eer.png`` (EER by condition) into ``folder``."""

        folder = Path(folder)
        record = {"settings": self.settings, "rows": [asdict(row) for row in self.rows]}
        with atomic_path(folder / "eer.png") as beside:
            eer_figure(self).savefig(beside, dpi=200)
        replace_file(folder / "results.md", self.table().encode())
        write_json(folder / "results.json", record)
        return folder / "results.json"

    @staticmethod
    def load(path: str | Path) -> Results:
        """Read ``results.json``, or the folder that holds it.

        Raises:
            SeparativeError: no such file, or not results.
        """
        path = Path(path)
        path = path / "results.json" if path.is_dir() else path
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return Results(tuple(Row(**row) for row in record["rows"]), record["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SeparativeError(f"{path}: not the results of an evaluation ({error})") from error


def title(metric: str, corpus: str, settings: dict[str, Any]) -> str:
    """Heading of a table, with the unit and, for the information bound, its ceiling."""
    unit = f", {UNITS[metric]}" if UNITS.get(metric) else ""
    ceiling = f", at most {settings['mi_ceiling']:.2f}" if metric == "MI" and "mi_ceiling" in settings else ""
    # The inventory of the bound holds everybody: which corpus a speaker is of is part of who it is.
    pooled = "speakers of all corpora together" if metric == "MI" else "within each corpus, all corpora"
    return f"{metric}{unit}{ceiling} · {pooled if corpus == POOLED else corpus}"


def _order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _table(rows: list[Row]) -> str:
    conditions = _order(row.condition for row in rows)
    cells = {(row.model, row.condition): row.cell() for row in rows}
    lines = ["| model | " + " | ".join(conditions) + " |", "|---" * (len(conditions) + 1) + "|"]
    for model in _order(row.model for row in rows):
        lines.append(f"| {model} | " + " | ".join(cells.get((model, c), "") for c in conditions) + " |")
    return "\n".join(lines)


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
