"""The house rules that no linter knows: who imports whom, how long a file is, what a first import costs."""

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import separative

ROOT = Path(separative.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 400

# Rows of the house's table of rooms, without what follows from them; what is COMMON may serve every room.
COMMON = {"errors", "files", "metrics", "distributed", "rttm", "types"}
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "metrics": set(),
    "distributed": set(),
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
# Rooms allowed in type annotations only, and single files that stand for a whole room.
TYPES_ONLY = {("objectives", "model")}
REPORT_READS = {f"separative.evaluation.{name}" for name in ("results", "portrait")}
FORBIDDEN = {
    *("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("socket", "urllib", "urllib3", "http", "requests", "httpx", "aiohttp", "ftplib"),
}


def allowed(room: str) -> set[str]:
    """What a room may import, through any number of rows."""
    direct = MAY_IMPORT[room]
    return COMMON | {room} | direct | {name for other in direct for name in allowed(other)}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Every module imported anywhere in a file, and whether for annotations only."""
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


def test_every_room_has_its_row() -> None:
    front = {"__init__", "__main__"}
    assert {room_of(path) for path in FILES} - front == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_its_row_allows(room: str) -> None:
    strangers = []
    for path in (p for p in FILES if room_of(p) == room):
        for name, typing_only in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if not name.startswith("separative."):
                continue
            other = name.split(".")[1]
            wrong = other not in allowed(room)
            wrong |= (room, other) in TYPES_ONLY and not typing_only
            wrong |= room == "report" and other == "evaluation" and name not in REPORT_READS
            if wrong:
                strangers.append(f"{path.relative_to(ROOT)}: {name}")
    assert not strangers


def test_nothing_unpickles_and_nothing_knows_a_network() -> None:
    found = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {name for name, _ in imports(tree)} - {"urllib.parse"}  # text, no network
        found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in FORBIDDEN]
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            pickled = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords)
            if pickled or function in ("torch.load", "fabric.load", "self.fabric.load"):
                found.append(f"{path.name}: {function}")
    assert not found


def test_no_file_is_long() -> None:
    tests = sorted(Path(__file__).parent.rglob("*.py"))
    long = {str(p): n for p in [*FILES, *tests] if (n := len(p.read_text().splitlines())) > LONGEST}
    assert not long


def test_public_names_are_there() -> None:
    assert set(separative._HOME) == set(separative.__all__)
    assert all(getattr(separative, name) is not None for name in [*separative.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        separative.embedd  # noqa: B018


@pytest.mark.parametrize(
    ("limit", "arguments"), [(0.3, ["-c", "import separative"]), (0.5, ["-m", "separative", "--help"])]
)
def test_the_front_door_is_quick(limit: float, arguments: list[str]) -> None:
    # Of the processor, and the best of a few: a busy machine must not fail it, a heavy import must.
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < limit for _ in range(5))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, separative.cli.app\n"
        "print(*{name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'scipy', 'matplotlib', 'soundfile', 'pydantic'})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
