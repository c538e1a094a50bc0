"""The command line: one thin verb per job, with the names of the Python API."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from separative.errors import SeparativeError

WRONG, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 done, 1 errors found by a check, 2 not done, 130 interrupted.

    What a user can get wrong is told on standard error in one sentence, without a traceback.
    """
    # Read when torch loads: OpenMP's threads would spin while they wait, which slows a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from separative.cli.app import app
    from separative.cli.show import Stopped

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("separative: %(message)s"))
    logging.getLogger("separative").addHandler(handler)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="separative")
    except SeparativeError as error:
        return _complain(str(error), WRONG)
    except Stopped as stop:
        return _complain(str(stop), INTERRUPTED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{(error.strerror or str(error)).lower()}", WRONG)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        return _complain("interrupted", code) if code == INTERRUPTED else code
    finally:
        logging.getLogger("separative").removeHandler(handler)
    return 0


def _complain(sentence: str, code: int) -> int:
    print(f"separative: {sentence}", file=sys.stderr)
    return code
