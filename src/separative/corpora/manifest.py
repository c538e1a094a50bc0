"""The one form of a corpus in memory: utterances with speakers, corpora and splits."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from separative import audio
from separative.errors import AudioError, CorpusError
from separative.types import Progress

IdentityKind = Literal["speaker", "recording"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of one sound file spoken by one speaker (or noise, with ``speaker`` None).

    ``start`` and ``seconds`` are in seconds; ``speaker`` is globally unique, None where unlabelled.
    ``category`` is the class of a noise clip.
    """

    id: str
    path: Path
    seconds: float
    speaker: str | None = None
    start: float = 0.0
    corpus: str = ""
    split: str = ""
    category: str = ""


@dataclass(frozen=True)
class Corpus:
    """An ordered, immutable set of utterances."""

    utterances: tuple[Utterance, ...]

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    @cached_property
    def by_speaker(self) -> dict[str, tuple[Utterance, ...]]:
        """Labelled utterances by speaker; speakers sorted by name, utterances in corpus order."""
        speakers: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            if utterance.speaker is not None:
                speakers.setdefault(utterance.speaker, []).append(utterance)
        return {name: tuple(speakers[name]) for name in sorted(speakers)}

    @property
    def speakers(self) -> tuple[str, ...]:
        return tuple(self.by_speaker)

    def identities(self, kind: IdentityKind) -> dict[str, tuple[Utterance, ...]]:
        """Utterances by identity: the speaker (labelled ones only) or the recording each was cut from."""
        if kind == "speaker":
            return self.by_speaker
        recordings: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            recordings.setdefault(str(utterance.path), []).append(utterance)
        return {name: tuple(recordings[name]) for name in sorted(recordings)}

    def filter(self, keep: Callable[[Utterance], bool]) -> Corpus:
        return Corpus(tuple(u for u in self.utterances if keep(u)))

    @property
    def readable(self) -> Corpus:
        """Without files that cannot be read, which last no time where a corpus is loaded with them."""
        return self.filter(lambda u: u.seconds > 0)

    def split(self, name: str) -> Corpus:
        """The utterances of one split; a corpus without any split names is returned whole.

        Raises:
            CorpusError: no utterance has that split; names the splits there are.
        """
        splits = {u.split for u in self.utterances}
        if splits == {""}:
            return self
        if name not in splits:
            raise CorpusError(f"the corpus has no split '{name}'; valid: {', '.join(sorted(splits))}")
        return self.filter(lambda u: u.split == name)


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
