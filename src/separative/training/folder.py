"""The folder of a run: one run at a time, and what a run that resumes must have in common with it."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from separative.corpora.manifest import Corpus, Utterance
from separative.distributed import ProcessGroup
from separative.errors import ModelError, RecipeError, validation_message
from separative.files import lock_file, new_folder, read_json
from separative.mixtures import Mixer
from separative.model.teacher import TeacherVectors
from separative.training import checkpoint
from separative.training.recipe import Recipe, parse_recipe

log = logging.getLogger(__name__)

RECIPE, REPLAY, LOCK = "recipe.json", "replay.json", ".lock"
# Up to this number, the names of the training speakers are in the checkpoint, so that an error can name one.
MAX_NAMES = 10_000

# Folders that a run of this process uses. A lock of the system does not exclude its own process.
_used: set[Path] = set()


def check_folder(out: Path, recipe: Recipe, resume: bool) -> None:
    """Check that ``out`` is new or empty or, with ``resume``, holds a run with the same recipe.

    Raises:
        ModelError: there is nothing to resume, or the folder is not empty.
        RecipeError: the run to resume has a different or a damaged recipe.

    >>> check_folder(Path("run"), Recipe(), resume=False)
    >>> check_folder(Path("run"), Recipe(), resume=True)
    Traceback (most recent call last):
    separative.errors.ModelError: run has no checkpoint to resume from...
    """
    if not resume:
        # A run that was killed before its first checkpoint may have left its lock file.
        if not out.is_dir() or any(path.name != LOCK for path in out.iterdir()):
            new_folder(out, "the run, or resume the run in it", ModelError)
        return
    if not checkpoint.has_checkpoint(out):
        raise ModelError(f"{out} has no checkpoint to resume from: train without resume")
    path = out / RECIPE
    # The checkpoint holds the recipe too, so a run can be resumed without this file.
    if path.is_file():
        check_recipe(recipe, read_json(path, RecipeError), path)


def check_recipe(recipe: Recipe, saved: Any, path: Path) -> None:
    """Check that a recipe is that of the run to resume.

    Args:
        recipe: the given recipe.
        saved: content of the recipe of the run.
        path: the file with that recipe, for the error message.

    Raises:
        RecipeError: they differ; the message names the section and the key.

    >>> check_recipe(Recipe(), Recipe(seed=1).model_dump(mode="json"), Path("recipe.json"))
    Traceback (most recent call last):
    separative.errors.RecipeError: the given recipe differs from recipe.json in 'seed' (1 there, 0 given)...
    """
    if not isinstance(saved, dict):
        raise RecipeError(f"{path} is not a recipe: it has no keys")
    given = recipe.model_dump(mode="json")
    key, there, here = _first_difference(saved, given) or ("", None, None)
    if not key:
        return
    section, _, rest = key.partition(".")
    what = f"'{section}'" + (f", key '{rest}'" if rest else "")
    raise RecipeError(
        f"the given recipe differs from {path} in {what} ({there} there, {here} given): resume a run with its"
        " own recipe"
    )


def _first_difference(saved: dict[str, Any], given: dict[str, Any]) -> tuple[str, str, str] | None:
    """The first key that differs, with dots between the keys of sections, and both values as short texts."""
    for key in sorted(given.keys() | saved.keys()):
        ours, theirs = given.get(key), saved.get(key)
        if ours == theirs and (key in given) == (key in saved):
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            inside = _first_difference(theirs, ours)
            if inside is not None:
                return f"{key}.{inside[0]}", inside[1], inside[2]
        there, here = (_short(record[key]) if key in record else "missing" for record in (saved, given))
        return key, there, here
    return None


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "another value"
    return str(value)[:40]


def load_replay(path: str | Path) -> tuple[Recipe, list[int]]:
    """Read ``replay.json``: the recipe of its run, and the numbers of the mixtures without a finite loss.

    Raises:
        RecipeError: the file does not exist or is not the ``replay.json`` of a run.

    >>> load_replay("replay.json")
    Traceback (most recent call last):
    separative.errors.RecipeError: replay.json is not a replay.json next to the recipe.json of a run: ...
    """
    path = Path(path)
    try:
        record = read_json(path, RecipeError)
        content = read_json(path.parent / RECIPE, RecipeError)
    except RecipeError as error:
        raise RecipeError(f"{path} is not a {REPLAY} next to the {RECIPE} of a run: {error}") from error
    items = record.get("items") if isinstance(record, dict) else None
    if not isinstance(items, list) or not all(type(item) is int and 0 <= item < 2**62 for item in items):
        raise RecipeError(f"{path} is not a {REPLAY} of a run: 'items' must be a list of mixture numbers")
    return parse_recipe(content, str(path.parent / RECIPE)), items


@contextmanager
def lock_folder(out: Path, processes: ProcessGroup) -> Iterator[None]:
    """Keep other runs out of a folder, which is created if needed, until the block ends.

    The system releases the lock when the process ends, however it ends. A folder that is still empty when
    the block ends is removed.

    Args:
        out: the folder.
        processes: all processes of the run must call this function; the first holds the lock.

    Raises:
        ModelError: another run uses the folder. All processes raise it.

    >>> from separative.distributed import SINGLE_PROCESS
    >>> with lock_folder(Path("run"), SINGLE_PROCESS), lock_folder(Path("run"), SINGLE_PROCESS):
    ...     pass
    Traceback (most recent call last):
    separative.errors.ModelError: run is in use by another training: wait until it ends, or choose ...
    >>> Path("run").exists()
    False
    """
    if processes.rank:
        _agree_on_lock(out, processes, taken=True)
        yield
        return
    created = [folder for folder in (out, *out.parents) if not folder.exists()]
    key = out.resolve()
    taken = key not in _used
    file = None
    if taken:
        file = _open_locked(out / LOCK)
        taken = file is not None
    _agree_on_lock(out, processes, taken)
    _used.add(key)
    try:
        yield
    finally:
        _used.discard(key)
        if file is not None:
            # While it is locked: another process that opened the file before notices that it is gone.
            if sys.platform != "win32":
                (out / LOCK).unlink(missing_ok=True)
            file.close()
            if sys.platform == "win32":
                # Windows does not remove open files, so this fails if another process has opened the file.
                with suppress(OSError):
                    (out / LOCK).unlink()
        # rmdir refuses a folder that is not empty.
        with suppress(OSError):
            for folder in created:
                folder.rmdir()


def _agree_on_lock(out: Path, processes: ProcessGroup, taken: bool) -> None:
    _, refused = processes.agree([0.0], not taken)
    if refused:
        raise ModelError(f"{out} is in use by another training: wait until it ends, or choose another folder")


def _open_locked(path: Path) -> IO[str] | None:
    """Create and lock a file, also its folder. None if another process has locked it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a", encoding="utf-8")
        except FileNotFoundError:
            continue  # the run before has just removed the folder
        try:
            # Not inherited by the processes that draw mixtures: they may live for some seconds after a run is
            # killed.
            lock_file(file)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            log.warning("%s: this file system has no locks; start only one training in this folder", path)
            return file
        # The run before may have removed the file after it was opened here.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


class RunState(BaseModel):
    """What a checkpoint says about its run.

    >>> RunState(step=3, minutes=0.5).step
    3
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    step: int = Field(ge=0, le=10**12, strict=True)
    minutes: float = Field(ge=0, strict=True)
    origin: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    data: dict[str, Any] = {}

    @staticmethod
    def parse(state: dict[str, Any], path: Path) -> RunState:
        """Check the state of a checkpoint.

        Raises:
            ModelError: an entry is missing or invalid; the message names it.
        """
        try:
            parsed = RunState.model_validate(state)
        except ValidationError as error:
            raise ModelError(
                f"{path} is not a checkpoint of this version: {validation_message(error, RunState)}"
            ) from error
        speakers = (parsed.origin or {}).get("speakers", [])
        if not isinstance(speakers, list) or not all(isinstance(name, str) for name in speakers):
            raise ModelError(f"{path} is not a checkpoint of this version: 'origin.speakers' is not a list")
        return parsed


def describe_data(
    mixer: Mixer, speech: Corpus, noise: Corpus | None, teacher: TeacherVectors | None = None
) -> dict[str, Any]:
    """Fingerprints of what a run trains on, for its checkpoint. They do not depend on folders.

    >>> from separative import MixtureConfig, load_corpus
    >>> speech = load_corpus("speech")
    >>> data = describe_data(Mixer(speech, MixtureConfig(batch=2), seed=0), speech, None)
    >>> sorted(data), data["speakers"]["count"]
    (['identities', 'noise', 'recordings', 'speakers'], 4)
    """
    speakers = speech.speakers
    sources = ("\n".join(u.id for u in utterances) for utterances in mixer.pool.utterances)
    vectors = {} if teacher is None else {"teacher": {"count": len(teacher.ids), "sha256": teacher.sha256}}
    return vectors | {
        "speakers": _fingerprint(speakers)
        | ({"names": list(speakers)} if len(speakers) <= MAX_NAMES else {}),
        "recordings": _fingerprint(map(_describe_utterance, speech)),
        "identities": _fingerprint(sources),
        "noise": _fingerprint(map(_describe_utterance, noise or ())),
    }


def check_data(saved: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Check that a run resumes with the data of its checkpoint.

    Args:
        saved: what :func:`describe_data` returned for the checkpoint.
        now: the same for the given data.
        path: the checkpoint, for the error message.

    Raises:
        ModelError: they differ; the message says in what, and names a speaker.

    >>> data = {"speakers": {"count": 2, "sha256": "1f", "names": ["ann", "bob"]}}
    >>> other = {"speakers": {"count": 2, "sha256": "2e", "names": ["ann", "eve"]}}
    >>> check_data(data, other, Path("checkpoint.safetensors"))
    Traceback (most recent call last):
    separative.errors.ModelError: checkpoint.safetensors belongs to another architecture or corpus: ...
    """
    words = {
        "speakers": "training speakers",
        "recordings": "utterances of the split train",
        "identities": "readable utterances of the split train",
        "noise": "noise clips",
        "teacher": "vectors of the teacher",
    }
    for key, what in words.items():
        old, new = saved.get(key), now.get(key)
        if old == new:
            continue
        old = old if isinstance(old, dict) else {}
        new = new or {}
        detail = f"{old.get('count', 'unknown')} then, {new.get('count', 'unknown')} now"
        names = old.get("names"), new.get("names")
        if all(isinstance(n, list) for n in names):
            before, after = ({str(name) for name in n or ()} for n in names)
            gone, added = sorted(before - after), sorted(after - before)
            detail += f"; '{gone[0]}' is missing" if gone else ""
            detail += f"; '{added[0]}' is new" if added else ""
        raise ModelError(
            f"{path} belongs to another architecture or corpus: the {what} differ ({detail}): resume the run"
            " with its own data"
        )


def _describe_utterance(utterance: Utterance) -> str:
    return f"{utterance.id}\t{utterance.speaker}\t{utterance.start!r}\t{utterance.seconds!r}"


def _fingerprint(lines: Iterable[str]) -> dict[str, Any]:
    digest, count = hashlib.sha256(), 0
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\0")
        count += 1
    return {"count": count, "sha256": digest.hexdigest()}
