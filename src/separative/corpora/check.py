"""Is a corpus fit for use? Every file decoded once, every finding a row."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from separative import audio
from separative.corpora.manifest import Corpus, Utterance, in_threads
from separative.errors import AudioError
from separative.types import Progress, Wave

MIN_SPEECH = 4.0
"""Seconds of active speech below which a speaker is named: two stretches of 2 s, the least for a trial."""
SILENT_DB = -80.0
QUIET_DB = -55.0
# A frame is active within 30 dB of the loud ones (95th percentile): speech pauses and codec noise lie below.
ACTIVE_RANGE_DB = 30.0
FRAME_SECONDS = 0.02
PIECE_SECONDS = 60.0
DURATION_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class CorpusProblem:
    """One finding: ``where`` is a file or a speaker."""

    kind: Literal["error", "warning"]
    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class Share:
    """The size of a corpus or of one part of it; ``hours`` as decoded."""

    speakers: int
    utterances: int
    hours: float


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """Problems; the size of the whole and of each corpus; utterances by rate (hertz) and by channels."""

    problems: tuple[CorpusProblem, ...]
    total: Share
    by_corpus: dict[str, Share]
    rates: dict[int, int]
    channels: dict[int, int]

    @property
    def errors(self) -> tuple[CorpusProblem, ...]:
        return tuple(p for p in self.problems if p.kind == "error")

    @property
    def warnings(self) -> tuple[CorpusProblem, ...]:
        return tuple(p for p in self.problems if p.kind == "warning")


@dataclass(frozen=True, slots=True)
class _Finding:
    """One utterance decoded; ``failure`` where it could not be."""

    seconds: float = 0.0
    active: float = 0.0
    level: float = -math.inf
    digest: bytes = b""
    rate: int = 0
    channels: int = 0
    failure: str = ""


def check_corpus(
    corpus: Corpus, *, min_speech: float = MIN_SPEECH, progress: Progress | None = None
) -> CorpusReport:
    """Decode every utterance and report what is wrong.

    Errors: unreadable, cut short, empty, silent, shorter than the manifest says, the same audio under two
    speakers, fewer than two speakers. Warnings: the same audio twice, very low level, speakers with less than
    ``min_speech`` seconds of active speech, several rates, several channels, no labels at all.

    Args:
        min_speech: seconds; a frame of 20 ms is active within 30 dB of its utterance's loud frames.
        progress: called with (done, total) utterances.
    """
    findings = in_threads(_examine, corpus.utterances, progress)
    problems = [
        *_of_utterances(corpus, findings),
        *_of_duplicates(corpus, findings),
        *_of_speakers(corpus, findings, min_speech),
        *_of_formats(findings),
    ]
    names = sorted({u.corpus for u in corpus})
    seen = list(zip(corpus.utterances, findings, strict=True))
    return CorpusReport(
        problems=tuple(sorted(problems, key=lambda p: p.kind)),
        total=_share(seen),
        by_corpus={name: _share([(u, f) for u, f in seen if u.corpus == name]) for name in names},
        rates=dict(Counter(f.rate for f in findings if f.rate)),
        channels=dict(Counter(f.channels for f in findings if f.channels)),
    )


def _examine(utterance: Utterance) -> _Finding:
    try:
        if utterance.path.is_file() and not audio.is_whole(utterance.path):
            return _Finding(failure="cut short: the file ends before its audio does")
        header = audio.info(utterance.path)
        digest = hashlib.blake2b(digest_size=16)
        samples, active, power = 0, 0.0, 0.0
        for wave_N in _pieces(utterance, header.seconds):
            digest.update(wave_N.tobytes())
            samples += len(wave_N)
            active += active_seconds(wave_N, header.rate)
            power += float(np.square(wave_N, dtype=np.float64).sum())
    except AudioError as error:
        return _Finding(failure=str(error).removeprefix(f"{utterance.path}: "))
    level = 10.0 * math.log10(power / samples) if power > 0.0 else -math.inf
    return _Finding(samples / header.rate, active, level, digest.digest(), header.rate, header.channels)


def _pieces(utterance: Utterance, file_seconds: float) -> Iterator[Wave]:
    """The utterance's audio in pieces of a minute: an hour-long file is never held whole."""
    end = min(utterance.start + utterance.seconds, file_seconds)
    start = utterance.start
    while True:
        wave_N, _ = audio.read(utterance.path, start=start, seconds=min(PIECE_SECONDS, end - start))
        yield wave_N
        start += PIECE_SECONDS
        if start >= end:
            return


def active_seconds(wave_N: Wave, rate: int) -> float:
    """Seconds in 20 ms frames within 30 dB of the loud ones; an energy gate, not a speech detector."""
    frame = round(FRAME_SECONDS * rate)
    count = len(wave_N) // frame
    if count == 0:
        return 0.0
    power_T = np.square(wave_N[: count * frame].reshape(count, frame)).mean(axis=1)
    floor = max(np.quantile(power_T, 0.95) * 10 ** (-ACTIVE_RANGE_DB / 10), 10 ** (SILENT_DB / 10))
    return float((power_T > floor).sum()) * FRAME_SECONDS


def _of_utterances(corpus: Corpus, findings: list[_Finding]) -> Iterator[CorpusProblem]:
    for utterance, found in zip(corpus, findings, strict=True):
        where = str(utterance.path)
        if found.failure:
            yield CorpusProblem("error", where, found.failure)
        elif found.level < SILENT_DB:
            yield CorpusProblem(
                "error", where, f"silent: level {found.level:.0f} dB, below {SILENT_DB:.0f} dB"
            )
        elif found.level < QUIET_DB:
            yield CorpusProblem("warning", where, f"very quiet: level {found.level:.0f} dB")
        if not found.failure and found.seconds < utterance.seconds - DURATION_TOLERANCE:
            lack = f"the manifest says {utterance.seconds:.2f} s, the file holds {found.seconds:.2f} s"
            yield CorpusProblem(
                "error", where, f"{lack} from {utterance.start:g} s on" if utterance.start else lack
            )


def _of_duplicates(corpus: Corpus, findings: list[_Finding]) -> Iterator[CorpusProblem]:
    first: dict[bytes, Utterance] = {}
    for utterance, found in zip(corpus, findings, strict=True):
        # Silent files are equal without being copies.
        if found.failure or found.level < SILENT_DB:
            continue
        other = first.setdefault(found.digest, utterance)
        if other is utterance:
            continue
        if other.speaker == utterance.speaker:
            yield CorpusProblem("warning", str(utterance.path), f"the same audio as {other.path}")
        else:
            speakers = f"{other.speaker or 'unlabelled'} and {utterance.speaker or 'unlabelled'}"
            yield CorpusProblem(
                "error", str(utterance.path), f"the same audio as {other.path}, under {speakers}"
            )


def _of_speakers(corpus: Corpus, findings: list[_Finding], min_speech: float) -> Iterator[CorpusProblem]:
    if all(u.category for u in corpus):
        return  # noise has no speakers
    active: dict[str, float] = defaultdict(float)
    for utterance, found in zip(corpus, findings, strict=True):
        if utterance.speaker is not None:
            active[utterance.speaker] += found.active
    if not active:
        yield CorpusProblem(
            "warning", "corpus", "no speaker is labelled; only identity: recording can be learnt from it"
        )
    elif len(active) < 2:
        yield CorpusProblem(
            "error", "corpus", f"only one speaker ({next(iter(active))}); at least two are needed"
        )
    for speaker in sorted(active):
        if active[speaker] < min_speech:
            problem = f"too little speech: {active[speaker]:.1f} s active, under {min_speech:g} s"
            yield CorpusProblem("warning", speaker, problem)


def _of_formats(findings: list[_Finding]) -> Iterator[CorpusProblem]:
    rates = Counter(f.rate for f in findings if f.rate)
    if len(rates) > 1:
        listed = ", ".join(f"{rate} Hz ({count})" for rate, count in rates.most_common())
        yield CorpusProblem("warning", "corpus", f"several sampling rates, all are resampled: {listed}")
    several = sum(f.channels > 1 for f in findings)
    if several:
        yield CorpusProblem(
            "warning", "corpus", f"{several} utterances have several channels; their mean is used"
        )


def _share(seen: list[tuple[Utterance, _Finding]]) -> Share:
    speakers = {u.speaker for u, _ in seen if u.speaker is not None}
    return Share(len(speakers), len(seen), sum(f.seconds for _, f in seen) / 3600)
