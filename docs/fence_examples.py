"""Extension of griffe for the docs site: put the examples of docstrings into fenced code blocks.

Without fences, Markdown reads the lines that begin with ``>>>`` as quotations.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^[ ]*>>> .*\n?(?:^[ ]*\S.*\n?)*)", re.MULTILINE)


def fence(text: str) -> str:
    """Fence every block of lines that begins with ``>>>`` and ends at an empty line."""

    def fenced(match: re.Match[str]) -> str:
        lines = match[0].rstrip("\n").splitlines()
        indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
        return "\n".join([f"{indent}```pycon", *lines, f"{indent}```"]) + "\n"

    return EXAMPLE.sub(fenced, text)


class FenceExamples(griffe.Extension):
    """Edit docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = fence(obj.docstring.value)
