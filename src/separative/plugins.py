"""Python files of the user that add objectives, corpus layouts or conditions to the commands."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from separative.errors import SeparativeError

VARIABLE = "SEPARATIVE_PLUGINS"
"""Environment variable with the plugins of a command, for the processes that it starts."""


def load_plugins(paths: Iterable[Path] = ()) -> None:
    """Load plugins, and those of the command that started this process.

    Raises:
        SeparativeError: see :func:`load_plugin`.

    >>> _ = Path("mine.py").write_text("from separative.corpora import LAYOUTS")
    >>> load_plugins([Path("mine.py")])
    >>> Path(os.environ.pop("SEPARATIVE_PLUGINS")).name
    'mine.py'
    """
    inherited = [Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    every = [*inherited, *paths]
    for path in every:
        load_plugin(path)
    if every:
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(str(path.resolve()) for path in every))


def load_plugin(path: Path) -> None:
    """Run a Python file, which may register an objective, a corpus layout or a condition.

    A file is run once per process.

    Raises:
        SeparativeError: there is no such file, or it fails; the message names its line.

    >>> _ = Path("mine.py").write_text("1 / 0")
    >>> load_plugin(Path("mine.py"))
    Traceback (most recent call last):
    separative.errors.SeparativeError: mine.py, line 1: the plugin fails on import: ZeroDivisionError: ...
    """
    if path.suffix != ".py" or not path.is_file():
        raise SeparativeError(f"--plugin '{path}' must be an existing Python file, such as my_objective.py")
    name = f"separative_plugin_{path.resolve()}"
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SeparativeError(f"--plugin '{path}' cannot be read as a Python file")
    module = module_from_spec(spec)
    # Pydantic looks up the types of a configuration in the module of its class.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SeparativeError(f"{_where(path, error)}: {_reason(error)}; correct the plugin") from error


def _where(path: Path, error: BaseException) -> str:
    """The plugin, and its line in which the error occurred."""
    # The names of files in a traceback are absolute.
    own_name = str(path.absolute())
    if isinstance(error, SyntaxError) and error.filename == own_name:
        return f"{path}, line {error.lineno}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own_name]
    return f"{path}, line {own[-1].lineno}" if own else str(path)


def _reason(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"the plugin fails on import: {type(error).__name__}" + (f": {message}" if message else "")
