"""Compute the vectors of a teacher for the utterances of corpora, once; see method, section 8."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from separative import audio
from separative.benchmark.adapter import CommandSystem
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import AudioError, CorpusError, ModelError, SeparativeError
from separative.model.teacher import Teacher, TeacherVectors
from separative.names import name_at_speed
from separative.types import Progress, Wave

log = logging.getLogger(__name__)

# The teacher embeds up to this many pieces of an utterance, spread evenly over it.
MAX_PIECES = 3


def teach(
    system: CommandSystem,
    teacher: Teacher,
    corpora: Sequence[Corpus],
    out: str | Path,
    *,
    seconds: float = 4.0,
    speeds: Sequence[float] = (1.0,),
    progress: Progress | None = None,
) -> TeacherVectors:
    """Embed every utterance with a teacher, write the vectors to a file, and return them.

    A short utterance is embedded whole. From a longer one, up to three pieces of ``seconds`` are embedded,
    and the vector is their mean. If the program is stopped, finished vectors are kept in a file with
    ``.part`` in its name, and the same call continues with it. An utterance that cannot be read gets no
    vector, with a warning.

    Args:
        system: the teacher.
        teacher: what identifies it.
        corpora: speech; ids must be unique over all of them.
        out: ``.npz`` or ``.parquet`` file to write. If it exists, only missing utterances are added.
        seconds: length of a piece.
        speeds: playback speeds. An utterance at another speed is another voice, with the id ``name@0.9``.
        progress: called with (done, total) utterances.

    Raises:
        CorpusError: duplicate ids.
        ModelError: the file or its part is damaged or of another teacher.
        SeparativeError: the teacher fails; see :class:`CommandSystem`.

    >>> import sys
    >>> from separative import load_corpus
    >>> code = (
    ...     "import sys, numpy; n = len(open(sys.argv[1]).readlines()); numpy.save(sys.argv[2], numpy.eye(n))"
    ... )
    >>> system = CommandSystem("rows", [sys.executable, "-c", code, "{list}", "{out}"])
    >>> teacher = Teacher(name="rows", licence="MIT", sha256="5f" * 32)
    >>> corpus = load_corpus("speech").split("dev")
    >>> teach(system, teacher, [corpus], "vectors.npz").vectors.shape[0] == len(corpus)
    True
    """
    if not 0.1 <= seconds <= 60:
        raise SeparativeError(f"seconds is {seconds:g} and must be between 0.1 and 60")
    out = Path(out)
    # The suffix says how the file is written, so it stays the last one.
    part = out.with_name(f"{out.stem}.part{out.suffix}")
    if not speeds or len(set(speeds)) < len(speeds) or min(speeds) < 0.5 or max(speeds) > 2:
        raise SeparativeError("the speeds must be different factors between 0.5 and 2")
    ids = [utterance.id for corpus in corpora for utterance in corpus]
    if len(set(ids)) < len(ids):
        twin = next(name for name in ids if ids.count(name) > 1)
        raise CorpusError(f"two utterances have the id '{twin}': ids must be unique over all corpora")
    done: dict[str, Wave] = {}
    for path in (out, part):
        if path.is_file():
            old = TeacherVectors.load(path, teacher)
            done |= dict(zip(old.ids, old.vectors, strict=True))
    kept = len(done)
    voices = [(utterance, speed) for speed in speeds for corpus in corpora for utterance in corpus]
    left = [voice for voice in voices if name_at_speed(voice[0].id, voice[1]) not in done]
    tried, failed = len(voices) - len(left), 0
    for call in _calls(left, seconds, system.batch):
        vectors = _embed(system, call, seconds)
        tried, failed = tried + len(call), failed + len(call) - len(vectors)
        done |= vectors
        if done:
            TeacherVectors.from_rows(teacher, list(done), np.stack(list(done.values())), part).save(part)
        if progress is not None:
            progress(tried, len(voices))
    if not done:
        raise ModelError(f"{out}: no utterance could be read, so there are no vectors")
    if failed:
        log.warning("%d of %d utterances have no vector: they cannot be read", failed, len(voices))
    result = TeacherVectors.from_rows(teacher, list(done), np.stack(list(done.values())), out)
    if len(done) > kept or not out.is_file():
        result.save(out)
    part.unlink(missing_ok=True)
    return result


def _calls(
    voices: Sequence[tuple[Utterance, float]], seconds: float, batch: int
) -> Iterator[list[tuple[Utterance, float]]]:
    """Divide utterances into calls of the command of at most ``batch`` pieces, or of one utterance."""
    call: list[tuple[Utterance, float]] = []
    pieces = 0
    for utterance, speed in voices:
        number = len(spans(utterance, seconds * speed))
        if call and pieces + number > batch:
            yield call
            call, pieces = [], 0
        call.append((utterance, speed))
        pieces += number
    if call:
        yield call


def _embed(
    system: CommandSystem, voices: Sequence[tuple[Utterance, float]], seconds: float
) -> dict[str, Wave]:
    """Mean of the unit vectors of each utterance's pieces; without the utterances that cannot be read."""
    pieces: list[Wave] = []
    count: dict[str, int] = {}
    for utterance, speed in voices:
        try:
            waves = [
                audio.resample(
                    utterance.read(system.rate, start, length), round(system.rate * speed), system.rate
                )
                for start, length in spans(utterance, seconds * speed)
            ]
        except AudioError as error:
            log.warning("skipped: %s", error)
            continue
        count[name_at_speed(utterance.id, speed)] = len(waves)
        pieces += waves
    outputs = iter(system(pieces) if pieces else ())
    # The adapter gives one row per command; the first candidate is the teacher's vector.
    return {
        name: np.mean([next(outputs)[0].embeddings[0] for _ in range(number)], axis=0, dtype=np.float32)
        for name, number in count.items()
    }


def spans(utterance: Utterance, seconds: float) -> list[tuple[float, float]]:
    """Start and length in seconds of the pieces of an utterance that a teacher embeds.

    >>> spans(Utterance("ann-1", Path("ann.wav"), 10.0), seconds=4.0)
    [(0.0, 4.0), (6.0, 4.0)]
    """
    number = max(1, min(MAX_PIECES, int(utterance.seconds / seconds)))
    length = min(seconds, utterance.seconds)
    slack = utterance.seconds - length
    if number == 1:
        return [(slack / 2, length)]
    return [(slack * index / (number - 1), length) for index in range(number)]
