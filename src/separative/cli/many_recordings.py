"""Many recordings in one call: which files they are, where their results go, and one after the other."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from separative.cli.one_recording import (
    DiarizeJob,
    DiarizeResult,
    DiarizeTarget,
    finished_result,
    process_recording,
)
from separative.cli.outputs import claim_outputs
from separative.cli.show import Bars, Stopped, check_recordings, error_sentence, print_json, printable
from separative.errors import SeparativeError


def find_targets(sources: Sequence[Path], out: Path) -> list[DiarizeTarget]:
    """Find all recordings of files and folders, and a place for the results of each.

    Results of a folder are in a folder of its name, with its sub-folders. Results of files are directly in
    ``out``; files of one name are in folders named like theirs. If the names of two recordings in a folder
    differ in the suffix only, both keep it: ``call-wav``, ``call-mp3``.

    Raises:
        SeparativeError: a folder has no recordings or is the output folder, or two results would be in one
            place.
    """
    places: dict[Path, tuple[Path, Path]] = {}
    for source in sources:
        root = _absolute(source)
        if source.is_dir():
            for path in _recordings_in(source, out):
                inside = _absolute(path)
                places.setdefault(inside, (path, out / root.name / inside.parent.relative_to(root)))
        else:
            places.setdefault(root, (source, out))
    twins: dict[tuple[Path, str], list[Path]] = {}
    for path, (_, place) in places.items():
        twins.setdefault((place, path.stem.casefold()), []).append(path)
    targets = []
    for path, (source, place) in places.items():
        parents = [twin.parent for twin in twins[place, path.stem.casefold()]]
        suffix = f"-{path.suffix[1:].lower()}" if parents.count(path.parent) > 1 and path.suffix else ""
        apart = len(set(parents)) > 1
        targets.append(
            DiarizeTarget(source, place / path.parent.name if apart else place, path.stem + suffix)
        )
    count = Counter((target.folder, target.stem.casefold()) for target in targets)
    (folder, stem), most = count.most_common(1)[0]
    if most > 1:
        raise SeparativeError(
            f"the results of {most} recordings would be {folder / stem}; process them with different folders"
            " for --out"
        )
    return targets


def process_all(
    job: DiarizeJob, targets: Sequence[DiarizeTarget], out: Path, *, force: bool, json: bool
) -> None:
    """Process recordings one after the other; one that fails is named, and the others are still processed.

    Raises:
        SeparativeError: at the end, if a recording failed.
        Stopped: the user interrupted the call.
    """
    failed = 0
    records: list[dict[str, Any]] = []
    for number, target in enumerate(targets, 1):
        words = f"{number} of {len(targets)}: "
        try:
            result, before = _process(job, target, words, force=force)
            if json:
                records.append(result.record | {"files": [str(path) for path in result.paths]})
            else:
                print(f"{words}{printable(target.source)}: {_summary(result)}{' (done before)' * before}")
                for note in result.notes:
                    print(f"  {printable(note)}")
            sys.stdout.flush()
            if result.damage:
                raise SeparativeError(f"{result.damage}; results up to there are in {target.folder}")
        except KeyboardInterrupt as stop:
            done = f"{number - 1 - failed} of {len(targets)} are in {out}"
            raise Stopped(f"interrupted; {done}; the same command continues") from stop
        except (SeparativeError, OSError) as error:
            failed += 1
            print(f"separative: {printable(error_sentence(error))}", file=sys.stderr)
    if json:
        print_json(records)
    else:
        print(f"results are in {printable(out)}")
    if failed:
        raise SeparativeError(f"{failed} of {len(targets)} not done")


def _process(
    job: DiarizeJob, target: DiarizeTarget, words: str, *, force: bool
) -> tuple[DiarizeResult, bool]:
    """The result of a recording, and whether an earlier call has made it."""
    channels = job.settings["channels"]
    check_recordings([target.source], channels)
    claim = claim_outputs(
        target.folder,
        target.stem,
        target.source,
        "diarize",
        force=force,
        ways="another folder with --out",
        by_channel=channels == "each",
    )
    if not force and (result := finished_result(job, target, claim)) is not None:
        return result, True
    with Bars() as bars:
        return process_recording(job, target, claim, bars, words), False


def _recordings_in(folder: Path, out: Path) -> list[Path]:
    """All recordings below a folder, without results of earlier calls."""
    from separative.corpora.folders import audio_files, left_out

    results = _absolute(out)
    if results == _absolute(folder):
        raise SeparativeError(
            f"--out {out} is the folder of the recordings; choose another folder, such as {out / 'results'}"
        )
    paths = list(audio_files(folder))
    kept = [path for path in paths if not _absolute(path).is_relative_to(results)]
    missed = left_out(folder, [folder.resolve() / path.relative_to(folder) for path in paths])
    if not kept:
        raise SeparativeError(f"{folder}: no recordings in this folder{f' ({missed})' if missed else ''}")
    if missed:
        print(f"separative: {printable(folder)}: {printable(missed)}", file=sys.stderr)
    return kept


def _summary(result: DiarizeResult) -> str:
    names = [str(speaker["name"]) for speaker in result.record["speakers"]]
    text = printable(", ".join(names)) or "no speech found"
    if result.missing_speakers:
        text += f" ({result.missing_speakers} of the speakers asked for were not found)"
    return text


def _absolute(path: Path) -> Path:
    """The path without ``..``; links stay, because results keep the names that the user sees."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.resolve follows links)
