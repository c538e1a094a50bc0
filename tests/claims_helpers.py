"""Read figures from Markdown pages and compare them, for ``test_claims.py``."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
NUMBER_PATTERN = re.compile(r"(?<![\w.,-])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w-])")


class Cell(NamedTuple):
    """A cell of a Markdown table. Table, row and column may be given by the start of their names."""

    page: str
    table: str
    row: str
    column: str

    def text(self) -> str:
        found = pick(pick(pick(tables(self.page), self.table), self.row), self.column)
        assert isinstance(found, str)
        return found


class Ratio(NamedTuple):
    """The quotient of two cells. It is known to the precision of the two only."""

    above: Cell
    below: Cell

    def text(self) -> str:
        above, below = (float(numbers(cell.text())[0]) for cell in self)
        return f"{above / below:.4f}"

    def slack(self) -> float:
        above, below = (numbers(cell.text())[0] for cell in self)
        relative = half_digit(above) / float(above) + half_digit(below) / float(below)
        return relative * float(above) / float(below)


class Quote(NamedTuple):
    """A number in the text of a page: the group of a pattern."""

    page: str
    pattern: str

    def text(self) -> str:
        return search(self.page, self.pattern)[1]


Source = Cell | Ratio | Quote


def search(page: str, pattern: str) -> re.Match[str]:
    """Find a pattern in a page; a space in it matches any white space."""
    match = re.search(pattern.replace(" ", r"\s+"), read(page), re.DOTALL)
    assert match, f"{page} has no text like '{pattern}'"
    return match


def pick(names: dict[str, Any], start: str) -> Any:
    """Return the value of a name, or else of the only name with this start."""
    if start in names:
        return names[start]
    found = [name for name in names if name.startswith(start)]
    assert len(found) == 1, f"'{start}' is the start of {found} in {sorted(names)}"
    return names[found[0]]


@cache
def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8").replace("\u2212", "-")


@cache
def tables(page: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return all tables of a page by name, as {row: {column: cell}}.

    The name is the bold line above the table, else its upper left cell, else the heading of its section.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    heading = bold = ""
    columns: list[str] = []
    rows: dict[str, dict[str, str]] = {}
    for line in read(page).splitlines():
        if line.startswith("|"):
            corner, *cells = [re.sub(r"[*`]", "", cell).strip() for cell in line.strip()[1:-1].split("|")]
            if not columns:
                columns, rows = cells, found.setdefault(bold or corner or heading, {})
            elif set(corner) != {"-"}:
                values = dict(zip(columns, cells, strict=False))
                known = rows.setdefault(corner, {})
                for column in known.keys() & values.keys():
                    assert known[column] == values[column], f"{page}: two values of {corner}, {column}"
                known |= values
            continue
        columns = []
        if line.startswith("#"):
            heading, bold = line.lstrip("# "), ""
        elif line.strip():
            bold = line.strip("*") if re.fullmatch(r"\*\*.*\*\*", line) else ""
    return found


def numbers(text: str) -> list[str]:
    """Return the numbers of a text; "8 of 10" is the percentage 80."""
    text = re.sub(r"(\d+) of (\d+)", lambda m: f"{100 * int(m[1]) / int(m[2]):.1f}", text)
    return [number.replace(",", "") for number in NUMBER_PATTERN.findall(text)]


def half_digit(number: str) -> float:
    return 0.5 * 10.0 ** -len(number.partition(".")[2])


def agree(claimed: str, measured: str, slack: float = 0.0) -> bool:
    """Compare the numbers in two texts to the precision of the coarser one. A claim may omit the interval."""
    pairs = list(zip(numbers(claimed), numbers(measured), strict=False))
    return len(pairs) == len(numbers(claimed)) > 0 and all(
        abs(float(a) - float(b)) <= max(half_digit(a), half_digit(b)) + slack + 1e-9 for a, b in pairs
    )
