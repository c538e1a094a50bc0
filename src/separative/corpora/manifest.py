"""Utterances and corpora in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from separative import audio
from separative.errors import AudioError, CorpusError
from separative.names import near_twins, normalise_name
from separative.types import Progress, Wave

IdentityKind = Literal["speaker", "recording", "utterance"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# The duration that a layout reader sets when the layout does not state it; `fill_durations` replaces it.
UNKNOWN_SECONDS = math.nan


@dataclass(frozen=True, slots=True)
class Utterance:
    """A labelled part of an audio file: the speech of one speaker, or noise.

    Attributes:
        id: unique within a corpus.
        path: the audio file.
        seconds: duration.
        speaker: unique over all corpora; None if unlabelled, and for noise.
        start: seconds from the start of the file.
        corpus, split: names; empty if there is none.
        category: class of a noise clip; empty for speech.
        channel: channel of the file, counted from 0; None for the mean of all channels.

    >>> Utterance("ann-1", Path("ann.wav"), 1.5, speaker="ann", start=2.0)
    Utterance(id='ann-1', path=PosixPath('ann.wav'), seconds=1.5, speaker='ann', start=2.0, ...)
    """

    id: str
    path: Path
    seconds: float
    speaker: str | None = None
    start: float = 0.0
    corpus: str = ""
    split: str = ""
    category: str = ""
    channel: int | None = None

    def read(self, rate: int | None = None, start: float = 0.0, seconds: float | None = None) -> Wave:
        """Decode this utterance, or the part of it from ``start`` for ``seconds``; see :func:`audio.read`.

        Returns:
            float32 ``[N]``.
        """
        length = self.seconds - start if seconds is None else seconds
        policy: audio.Channels | int = "mean" if self.channel is None else self.channel
        return audio.read(self.path, rate, channels=policy, start=self.start + start, seconds=length)[0]


@dataclass(frozen=True)
class Corpus:
    """An ordered, immutable collection of utterances.

    Attributes:
        utterances: the utterances.
        read_as: how the structure of a folder was read, if it was detected; one sentence.
        notes: what is wrong with the source of the corpus although it can be used, such as files that were
            left out; one sentence each.

    >>> ann = Utterance("ann-1", Path("ann.wav"), 1.5, "ann", split="train")
    >>> bob = Utterance("bob-1", Path("bob.wav"), 1.5, "bob", split="dev")
    >>> corpus = Corpus((ann, bob))
    >>> len(corpus), corpus.speakers, corpus.split("dev").speakers
    (2, ('ann', 'bob'), ('bob',))
    """

    utterances: tuple[Utterance, ...]
    read_as: str = field(default="", compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

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
        """Names of the labelled speakers, sorted."""
        return tuple(self.by_speaker)

    def identities(self, kind: IdentityKind) -> dict[str, tuple[Utterance, ...]]:
        """Utterances by identity: the speaker (labelled utterances only), the file, or each alone."""
        if kind == "speaker":
            return self.by_speaker
        if kind == "utterance":
            return {u.id: (u,) for u in sorted(self.utterances, key=lambda u: u.id)}
        recordings: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            recordings.setdefault(str(utterance.path), []).append(utterance)
        return {name: tuple(recordings[name]) for name in sorted(recordings)}

    def filter(self, keep: Callable[[Utterance], bool]) -> Corpus:
        """The utterances for which ``keep`` returns True."""
        return replace(self, utterances=tuple(u for u in self.utterances if keep(u)))

    @property
    def readable(self) -> Corpus:
        """The utterances with readable files; :func:`load_corpus` gives the others a duration of 0 s."""
        return self.filter(lambda u: u.seconds > 0)

    def split(self, name: str) -> Corpus:
        """The utterances of one split; a corpus without split names is returned whole.

        Raises:
            CorpusError: no utterance is in that split; the message names the splits.
        """
        name = normalise_name(name)
        splits = {u.split for u in self.utterances}
        if splits == {""}:
            return self
        if name not in splits:
            raise CorpusError(f"the corpus has no split '{name}'; valid: {', '.join(sorted(splits))}")
        return self.filter(lambda u: u.split == name)


def twin_notes(corpus: Corpus) -> Iterator[str]:
    """Yield a sentence for each group of names of speakers or splits that differ in capitals or blanks only.

    >>> ann, ann2 = (Utterance(name, Path(f"{name}.wav"), 1.5, name) for name in ("ann", "Ann"))
    >>> list(twin_notes(Corpus((ann, ann2))))
    ["the speakers 'Ann' and 'ann' differ only in capital letters or blanks; if they are one, use one name"]
    """
    for what, names in (("speakers", corpus.speakers), ("splits", {u.split for u in corpus})):
        for twins in near_twins(names):
            listed = " and ".join(f"'{name}'" for name in twins)
            yield (
                f"the {what} {listed} differ only in capital letters or blanks; if they are one, use one name"
            )


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """Return ``[function(item) for item in items]``, computed in one thread per core.

    Threads decode audio in parallel, because decoding releases the interpreter lock.

    Args:
        progress: called with (done, total) about a hundred times.

    >>> map_in_threads(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    results: list[Result] = []
    step = max(1, len(items) // 100)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for result in pool.map(function, items):
                results.append(result)
                if progress is not None and (len(results) % step == 0 or len(results) == len(items)):
                    progress(len(results), len(items))
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def fill_durations(
    utterances: Iterable[Utterance], progress: Progress | None = None, *, keep_damaged: bool = False
) -> list[Utterance]:
    """Fill in durations that are NaN: such an utterance lasts from its start to the end of its file.

    Args:
        progress: called with (done, total) file headers.
        keep_damaged: give an utterance with an unreadable file a duration of 0 s instead of raising an error.

    Raises:
        AudioError: the file of an utterance without a duration cannot be read.
        CorpusError: an utterance starts at or after the end of its file.

    >>> noise = Utterance("noise", Path("noise.wav"), math.nan, start=1.0)
    >>> fill_durations([noise])[0].seconds
    3.0
    """
    utterances = list(utterances)
    paths = sorted({u.path for u in utterances if math.isnan(u.seconds)})
    measure = _seconds_or_none if keep_damaged else _seconds
    length = dict(zip(paths, map_in_threads(measure, paths, progress), strict=True))

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
                f"but the file ends at {end:.2f} s"
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
