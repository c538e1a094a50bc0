"""The command line: one thin command per job, with the names of the Python API."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from separative.errors import SeparativeError
from separative.plugins import VARIABLE

NOT_DONE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: a check found errors, or `extract` did not find the person. 2: not done, one sentence on
    standard error says why. 130: interrupted.
    """
    # Torch reads this when it is imported. By default OpenMP's threads spin while they wait, which makes a
    # busy machine very slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from separative.cli.app import app
    from separative.cli.show import Stopped, error_sentence, use_safe_output

    use_safe_output()
    log = logging.getLogger("separative")
    level, inherited = log.level, os.environ.get(VARIABLE)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("separative: %(message)s"))
    log.addHandler(handler)
    try:
        app(
            args=_common_options_first(sys.argv[1:] if arguments is None else arguments),
            prog_name="separative",
        )
    except SeparativeError as error:
        log.debug("the error occurred here:", exc_info=error)
        return _print_error(str(error), NOT_DONE)
    except Stopped as stop:
        return _print_error(str(stop), INTERRUPTED)
    except OSError as error:
        return _print_error(error_sentence(error), NOT_DONE)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        return _print_error("interrupted", code) if code == INTERRUPTED else code
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        # Another command in this process has plugins of its own.
        os.environ.pop(VARIABLE, None)
        if inherited is not None:
            os.environ[VARIABLE] = inherited
    return 0


def _common_options_first(arguments: Sequence[str]) -> list[str]:
    """Move the options of all commands in front of the command, where the parser expects them."""
    first: list[str] = []
    rest = list(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    place = 0
    while place < end:
        count = 2 if rest[place] == "--plugin" else 1
        if rest[place] in ("--plugin", "--quiet", "--verbose", "--version") or rest[place].startswith(
            "--plugin="
        ):
            first += rest[place : place + count]
            del rest[place : place + count]
            end -= count
        else:
            place += 1
    return [*first, *rest]


def _print_error(sentence: str, code: int) -> int:
    print(f"separative: {sentence}", file=sys.stderr)
    return code
