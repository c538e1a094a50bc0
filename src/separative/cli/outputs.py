"""Keep the results of earlier recordings: which files in an output folder belong to which recording."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from errno import EACCES, EISDIR, ENOTDIR
from pathlib import Path

from separative.errors import SeparativeError
from separative.files import read_json

# The key of OUT/<name>.json that says which recording, and which command, the files of this name are of.
SOURCE = "source"
SUFFIXES = (
    *(".json", ".rttm", ".png", ".html"),
    *(".csv", ".srt", ".vtt", "-labels.txt", ".TextGrid", ".eaf", "-cuts.csv"),
)


def claim_outputs(
    folder: Path,
    name: str,
    recording: Path,
    command: str,
    *,
    force: bool,
    ways: str,
    by_channel: bool = False,
) -> dict[str, str]:
    """Check that results named ``name`` would not replace those of another recording or other files.

    Args:
        folder: the output folder.
        name: beginning of the names of all results.
        recording: the recording that is processed.
        command: the command that processes it.
        force: replace what is there.
        ways: options with which the user can choose other names, for the message.
        by_channel: the waveforms of channel 1 will be named like those of a recording ``<name>-1``.

    Returns:
        What to write into ``<name>.json`` under SOURCE, so that the same command may replace its results.

    Raises:
        SeparativeError: there are files of this name from another recording or another command.
    """
    from separative.inference.output import recording_digest

    source = {"command": command, "sha256": recording_digest(recording)}
    others = [
        path
        for path in folder.glob(f"{glob.escape(name)}-[0-9]*.json")
        if path.stem.removeprefix(f"{name}-").isdecimal()
    ]
    if others and by_channel and not force:
        raise SeparativeError(
            f"{min(others)} is of another recording, whose waveforms would be replaced; choose {ways}, or"
            " replace them with --force"
        )
    existing = list(_existing(folder, name))
    if not existing or force:
        return source
    owner = existing[0]
    if (record := read_record(folder / f"{name}.json")) is not None:
        if record.get(SOURCE) == source:
            return source
        owner = folder / f"{name}.json"
    of = f" (it is of {record['recording']})" if record and isinstance(record.get("recording"), str) else ""
    raise SeparativeError(
        f"{owner} exists and is not a result of 'separative {command}' for {recording}{of}; choose {ways}, or"
        " replace it with --force"
    )


def remove_stale_waveforms(folder: Path, name: str, written: Iterable[Path]) -> None:
    """Remove waveforms of an earlier run with more speakers, so that they are not taken for new ones."""
    for path in set(_waveforms(folder, name)) - set(written):
        path.unlink()


def check_output(path: Path, *, folder: bool) -> None:
    """Check that an output can be written, before the work is done.

    Args:
        path: the file or folder to write.
        folder: True for a folder.

    Raises:
        OSError: a file is where a folder must be or the other way round, or there is no permission.
    """
    if path.exists() and path.is_dir() != folder:
        code = ENOTDIR if folder else EISDIR
        raise OSError(code, os.strerror(code), str(path))
    nearest = path if folder else path.parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise OSError(ENOTDIR, os.strerror(ENOTDIR), str(nearest))
    if not os.access(nearest, os.W_OK):
        raise OSError(EACCES, os.strerror(EACCES), str(nearest))


def _existing(folder: Path, name: str) -> Iterator[Path]:
    for suffix in SUFFIXES:
        if (path := folder / f"{name}{suffix}").exists():
            yield path
    yield from _waveforms(folder, name)


def _waveforms(folder: Path, name: str) -> list[Path]:
    """Waveforms of a recording, also of its channels, but not those of a recording ``<name>-1``."""
    found = list(folder.glob(f"{glob.escape(name)}-speaker[0-9]*.wav"))
    for path in folder.glob(f"{glob.escape(name)}-[0-9]*-speaker[0-9]*.wav"):
        own = path.name.rpartition("-speaker")[0]
        if own.removeprefix(f"{name}-").isdecimal() and not (folder / f"{own}.json").exists():
            found.append(path)
    return sorted(found)


def read_record(path: Path) -> dict[str, object] | None:
    """The JSON object in a file; None if there is none."""
    try:
        record = read_json(path, limit=256 << 20)
    except SeparativeError:
        return None
    return record if isinstance(record, dict) else None
