"""Hook of mkdocs: one page of the API reference for each module, from the public names of each room.

A room is a subpackage; its public names are those in ``__all__``. A page for each room lists its modules.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[1] / "src" / "separative"
ROOMS = (
    *("audio", "corpora", "mixtures", "model", "objectives", "training", "inference", "metrics"),
    *("evaluation", "gallery", "report", "benchmark", "serve"),
)
# Public modules with names that are not names of their room.
ALSO = {"benchmark": ("adapter",), "inference": ("timeline",)}


def room_modules(room: str) -> dict[str, list[str]]:
    """Public names by module; an empty list for a module with all its names."""
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    public = next(
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    modules: dict[str, list[str]] = {name: [] for name in ALSO.get(room, ())}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"separative.{room}."):
            names = [alias.name for alias in node.names if alias.name in public]
            if names:
                modules.setdefault(str(node.module).split(".", 2)[2], []).extend(names)
    return dict(sorted(modules.items()))


def module_page(room: str, module: str, names: list[str]) -> str:
    """Markdown of the page of a module."""
    lines = [f"# {module}", "", f"Import these names from `separative.{room}`." if names else "", ""]
    lines += [f"::: separative.{room}.{module}"]
    if names:
        lines += ["    options:", f"      members: [{', '.join(names)}]"]
    return "\n".join(lines) + "\n"


def room_page(room: str, modules: dict[str, list[str]]) -> str:
    """Markdown of the page of a room."""
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    lines = [f"# {room}", "", ast.get_docstring(tree) or "", "", "| module | names |", "|---|---|"]
    for module, names in modules.items():
        shown = ", ".join(f"`{name}`" for name in names) or "all"
        lines.append(f"| [{module}]({module}.md) | {shown} |")
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for room in ROOMS:
        modules = room_modules(room)
        files.append(File.generated(config, f"api/{room}/index.md", content=room_page(room, modules)))
        for module, names in modules.items():
            content = module_page(room, module, names)
            files.append(File.generated(config, f"api/{room}/{module}.md", content=content))
    return files


def on_config(config: Any) -> Any:
    """Add the pages to the menu, below ``API``."""
    sections = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    api = next(entry["API"] for entry in sections if "API" in entry)
    for room in ROOMS:
        pages = [f"api/{room}/index.md", *(f"api/{room}/{module}.md" for module in room_modules(room))]
        api.append({room: pages})
    return config
