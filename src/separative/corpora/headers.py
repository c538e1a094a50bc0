"""Durations from file headers, many files at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from separative import audio
from separative.corpora.manifest import Utterance
from separative.errors import AudioError, CorpusError

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")

# What an importer writes where its layout gives no duration; load_corpus fills it in.
UNKNOWN_SECONDS = math.nan


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """``[work(item) for item in items]`` in as many threads as cores; decoding releases the interpreter lock.

    ``progress`` is called with (done, total) about every hundredth of the way.
    """
    results: list[Result] = []
    step = max(1, len(items) // 100)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for result in pool.map(work, items):
                results.append(result)
                if progress is not None and (len(results) % step == 0 or len(results) == len(items)):
                    progress(len(results), len(items))
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def with_durations(
    utterances: Iterable[Utterance], progress: Progress | None = None, *, keep_damaged: bool = False
) -> list[Utterance]:
    """Fill unknown durations from the headers; such an utterance lasts from its start to the end of its file.

    With ``keep_damaged``, an utterance whose file cannot be read stays, 0 seconds long.

    Raises:
        AudioError: a file whose duration is needed cannot be read.
        CorpusError: an utterance starts at or after the end of its file.
    """
    utterances = list(utterances)
    paths = sorted({u.path for u in utterances if math.isnan(u.seconds)})
    measure = _seconds_or_none if keep_damaged else _seconds
    length = dict(zip(paths, in_threads(measure, paths, progress), strict=True))

    def filled(utterance: Utterance) -> Utterance:
        if not math.isnan(utterance.seconds):
            return utterance
        end = length[utterance.path]
        if end is None:
            return replace(utterance, seconds=0.0)
        seconds = end - utterance.start
        if seconds <= 0:
            raise CorpusError(
                f"{utterance.path}: utterance '{utterance.id}' starts at {utterance.start} s, "
                f"the file ends at {end:.2f} s"
            )
        return replace(utterance, seconds=seconds)

    return [filled(u) for u in utterances]


def _seconds(path: Path) -> float:
    return audio.info(path).seconds


def _seconds_or_none(path: Path) -> float | None:
    try:
        return _seconds(path)
    except AudioError:
        return None
