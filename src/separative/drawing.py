"""What all figures and pages share: the palette, names in figures, and the templates of HTML pages."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

# The palette of Okabe and Ito, which colour-blind readers can tell apart; darkest colours first.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def figure_text(text: str) -> str:
    """A name for a figure: Matplotlib reads dollar signs as a formula and cannot draw bytes outside UTF-8.

    >>> figure_text("A$AP")
    'A\\\\$AP'
    """
    return text.encode("utf-8", "replace").decode().replace("$", r"\$")


def render_page(template: str, **values: object) -> bytes:
    """Render a template of the folder ``templates``; text values are escaped.

    >>> b"<h1>A &amp; B</h1>" in render_page("page.html", heading="A & B")
    True
    """
    return _environment().get_template(template).render(values).encode(errors="replace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
