"""Hook of mkdocs: every script in ``docs/notebooks`` becomes a page and a Jupyter notebook.

The scripts have the percent format: ``# %%`` begins a cell of code, ``# %% [markdown]`` one of text.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FOLDER = Path(__file__).parent / "notebooks"


def cells(script: str) -> list[tuple[str, str]]:
    """The cells of a script: ``code`` or ``markdown``, and the content."""
    found = []
    for head, body in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", script, re.MULTILINE):
        if "[markdown]" in head:
            found.append(("markdown", re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)))
        else:
            found.append(("code", body.strip()))
    return found


def notebook(script: str) -> str:
    """The script as a notebook, format 4.5, without outputs."""
    listed: list[dict[str, Any]] = []
    for number, (kind, content) in enumerate(cells(script)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": content}
        listed.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    record = {"cells": listed, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(record, indent=1) + "\n"


def page(name: str, script: str) -> str:
    """The script as a page."""
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells(script)]
    links = f"Download: [notebook]({name}.ipynb), [script]({name}.py). The tests run it on a small corpus."
    return "\n\n".join([parts[0], links, *parts[1:]]) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the notebooks."""
    for path in sorted(FOLDER.glob("*.py")):
        script = path.read_text(encoding="utf-8")
        name = f"notebooks/{path.stem}"
        files.append(File.generated(config, f"{name}.md", content=page(path.stem, script)))
        files.append(File.generated(config, f"{name}.ipynb", content=notebook(script)))
    return files
