"""Rules of the code base that no linter checks: imports between rooms, file lengths, names, import time."""

import ast
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import separative

ROOT = Path(separative.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 400

# Direct imports that each room may make; a room may also import what those import. COMMON is open to all.
COMMON = {"drawing", "errors", "files", "metrics", "names", "distributed", "plugins", "rttm", "types"}
MAY_IMPORT = {
    "drawing": set(),
    "errors": set(),
    "files": set(),
    "metrics": set(),
    "names": set(),
    "distributed": set(),
    "plugins": set(),
    "rttm": set(),
    "types": set(),
    "audio": set(),
    "corpora": {"audio"},
    "mixtures": {"corpora"},
    "model": set(),
    "objectives": {"model"},
    "training": {"objectives", "mixtures"},
    "inference": {"audio", "model"},
    "evaluation": {"inference", "mixtures"},
    "gallery": {"inference"},
    "report": {"evaluation"},
    "demo": {"training", "report"},
    "benchmark": {"training", "report"},
    "serve": {"gallery"},
    "cli": {"demo", "benchmark", "serve"},
}
# Imports allowed in type annotations only, and the only files of `evaluation` that `report` may import.
TYPES_ONLY = {("objectives", "model")}
REPORT_READS = {"separative.evaluation.results"}
FORBIDDEN = {
    *("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("socket", "urllib", "urllib3", "http", "requests", "httpx", "aiohttp", "ftplib"),
}


def allowed(room: str) -> set[str]:
    """All rooms that a room may import, directly or through others."""
    direct = MAY_IMPORT[room]
    return COMMON | {room} | direct | {name for other in direct for name in allowed(other)}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield every imported module, and whether it is imported for annotations only."""
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            names = [f"{base}.{a.name}" for a in node.names] if base == "separative" else [base]
            yield from ((name, id(node) in typing_only) for name in names)


def test_every_room_has_import_rules() -> None:
    front = {"__init__", "__main__"}
    assert {room_of(path) for path in FILES} - front == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_is_allowed(room: str) -> None:
    violations = []
    for path in (p for p in FILES if room_of(p) == room):
        for name, typing_only in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if not name.startswith("separative."):
                continue
            other = name.split(".")[1]
            wrong = other not in allowed(room)
            wrong |= (room, other) in TYPES_ONLY and not typing_only
            wrong |= room == "report" and other == "evaluation" and name not in REPORT_READS
            if wrong:
                violations.append(f"{path.relative_to(ROOT)}: {name}")
    assert not violations


def test_no_module_unpickles_or_uses_the_network() -> None:
    found = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {name for name, _ in imports(tree)} - {"urllib.parse"}  # parses text only
        found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in FORBIDDEN]
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            pickled = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords)
            if pickled or function in ("torch.load", "fabric.load", "self.fabric.load"):
                found.append(f"{path.name}: {function}")
    assert not found


def test_no_file_has_over_400_lines() -> None:
    tests = sorted(Path(__file__).parent.rglob("*.py"))
    long = {str(p): n for p in [*FILES, *tests] if (n := len(p.read_text().splitlines())) > LONGEST}
    assert not long


def test_public_names_exist() -> None:
    assert set(separative._MODULE_OF) == set(separative.__all__)
    assert all(getattr(separative, name) is not None for name in [*separative.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        separative.embedd  # noqa: B018


@pytest.mark.parametrize(
    ("limit", "arguments"), [(0.3, ["-c", "import separative"]), (0.5, ["-m", "separative", "--help"])]
)
def test_imports_and_help_are_quick(limit: float, arguments: list[str]) -> None:
    # Processor time, not wall time, and the best of five runs, so that a busy machine does not fail the test.
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < limit for _ in range(5))


def test_help_imports_no_heavy_module() -> None:
    code = (
        "import sys, separative.cli.app\n"
        "print(*{name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'scipy', 'matplotlib', 'soundfile', 'pydantic'})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def classes(path: Path) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def test_class_names_are_unique() -> None:
    counts = Counter(name for path in FILES for name in classes(path))
    assert [name for name, count in counts.items() if count > 1] == []


def test_names_of_test_files_are_unique() -> None:
    # pytest imports a test file by its name alone.
    counts = Counter(path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in counts.items() if count > 1] == []


def public_definitions() -> Iterator[tuple[str, str]]:
    """Yield every public top-level function and class, with the docstrings of it and its methods."""
    for path in FILES:
        # Commands are documented by their help, and run in tests and documentation pages.
        if room_of(path) in ("cli", "__main__"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            # A Protocol has no instances to show.
            if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases):
                continue
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                parts = [node, *(n for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef))]
                text = "\n".join(ast.get_docstring(part) or "" for part in parts)
                yield f"{path.relative_to(ROOT)}: {node.name}", text


def test_every_public_definition_has_an_example() -> None:
    assert [where for where, text in public_definitions() if ">>>" not in text] == []
