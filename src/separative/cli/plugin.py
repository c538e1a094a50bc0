"""Python files of the user that add objectives, corpus layouts or conditions to the commands."""

from __future__ import annotations

import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def load_plugin(path: Path) -> None:
    """Run a Python file, which may register an objective, a corpus layout or a condition.

    A file is run once per process.

    Raises:
        SeparativeError: there is no such file, or it fails; the message names its line.
    """
    from separative.errors import SeparativeError

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
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {own[-1].lineno}" if own else str(path)


def _reason(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"the plugin fails on import: {type(error).__name__}" + (f": {message}" if message else "")
