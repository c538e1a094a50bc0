"""Score RTTM files against reference RTTM files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from separative.errors import SeparativeError
from separative.metrics.turns import Span, TurnScore, score_turns
from separative.rttm import Turn, read_rttm, read_uems, rttm_name

log = logging.getLogger(__name__)

# Number of names that a message lists.
SHOWN = 3


def score_rttm(
    reference: str | Path, hypothesis: str | Path, *, uem: str | Path | None = None, collar: float = 0.0
) -> dict[str, TurnScore]:
    """Compute the errors of every recording in RTTM files. Overlapped speech is scored.

    A file may have the turns of several recordings. The second field of each line is the name of the
    recording; it must be the same in reference and hypothesis. A file without turns is a recording without
    speech, named like the file.

    Args:
        reference: an RTTM file, or a folder of them.
        hypothesis: an RTTM file, or a folder of them.
        uem: a UEM file with the scored spans of every recording, or a folder of them; by default all time is
            scored.
        collar: seconds that are not scored before and after each border of a reference turn, as for
            :func:`separative.metrics.score_turns`.

    Returns:
        the errors by recording, sorted by name. A recording of the reference that the hypothesis lacks is
        missed. A recording that only the hypothesis has is left out, unless ``uem`` lists it.

    Raises:
        SeparativeError: a file cannot be read or has an invalid line; the two sides have no recording in
            common; or ``uem`` lacks a recording of the reference.

    >>> _ = Path("ref.rttm").write_text("SPEAKER a 1 0.0 4.0 <NA> <NA> ann <NA> <NA>\\n")
    >>> _ = Path("hyp.rttm").write_text("SPEAKER a 1 1.0 3.0 <NA> <NA> speaker1 <NA> <NA>\\n")
    >>> score_rttm("ref.rttm", "hyp.rttm")["a"].rate
    0.25
    """
    references, found = _read_turns(Path(reference)), _read_turns(Path(hypothesis))
    scored = None if uem is None else _read_spans(Path(uem))
    names = sorted(references.keys() | (found.keys() & scored.keys() if scored else set()))
    if not references.keys() & found.keys():
        raise SeparativeError(
            f"{hypothesis} has no recording of {reference}: it has {_list(found)}, the reference has"
            f" {_list(references)}; the second field of each line must be the name of the recording"
        )
    if scored is not None and (lacking := [name for name in references if name not in scored]):
        raise SeparativeError(
            f"{uem} has no line about {_list(lacking)}; add one, or leave out the UEM file to score all time"
        )
    if missing := [name for name in names if name not in found]:
        log.warning("%s has no turns of %s; all speech there counts as missed", hypothesis, _list(missing))
    if more := [name for name in found if name not in names]:
        log.warning("%s also has %s, which the reference lacks; not scored", hypothesis, _list(more))
    return {
        name: score_turns(
            references.get(name, []),
            found.get(name, []),
            scored=None if scored is None else scored[name],
            collar=collar,
        )
        for name in names
    }


def _files(path: Path, suffix: str) -> list[Path]:
    """The file, or the files with this suffix in the folder."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{suffix}"))
    if not files:
        raise SeparativeError(f"{path}: no {suffix} files in this folder; pass a file or another folder")
    return files


def _read_turns(path: Path) -> dict[str, list[Turn]]:
    """The turns of all recordings of an RTTM file or folder."""
    turns: dict[str, list[Turn]] = {}
    for file in _files(path, ".rttm"):
        own = read_rttm(file) or {rttm_name(file.stem): []}
        if twice := sorted(own.keys() & turns.keys()):
            raise SeparativeError(f"{file} has turns of '{twice[0]}', and so has another file of its folder")
        turns |= own
    return turns


def _read_spans(path: Path) -> dict[str, list[Span]]:
    """The scored spans of all recordings of a UEM file or folder."""
    spans: dict[str, list[Span]] = {}
    for file in _files(path, ".uem"):
        for name, own in read_uems(file).items():
            spans.setdefault(name, []).extend(own)
    return spans


def _list(names: Mapping[str, object] | list[str]) -> str:
    """The first names in quotes, and how many more there are."""
    first = ", ".join(f"'{name}'" for name in sorted(names)[:SHOWN])
    return f"{first} and {len(names) - SHOWN} more" if len(names) > SHOWN else first
