"""Check whether a corpus is fit for use: decode every file once and list the problems."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from separative import audio
from separative.corpora.manifest import Corpus, Utterance, map_in_threads, twin_notes
from separative.errors import AudioError
from separative.types import Progress, Wave

MIN_SPEECH = 4.0
"""Seconds of speech that a speaker should have: a verification trial needs two segments of 2 s."""
SILENT_DB = -80.0
QUIET_DB = -55.0
FRAME_SECONDS = 0.02
PIECE_SECONDS = 60.0
DURATION_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class CorpusProblem:
    """One problem of a corpus; ``where`` is a file, a speaker or ``corpus``.

    >>> CorpusProblem("error", "ann.wav", "silent: level -inf dB, below -80 dB").kind
    'error'
    """

    kind: Literal["error", "warning"]
    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """The size of a corpus or of a part of it; ``hours`` is the decoded length.

    >>> CorpusSize(speakers=2, utterances=40, hours=0.05).utterances
    40
    """

    speakers: int
    utterances: int
    hours: float


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """The result of :func:`check_corpus`.

    Attributes:
        problems: errors first, then warnings.
        total: size of the whole corpus.
        by_corpus: size by :attr:`Utterance.corpus`.
        rates: number of utterances by sampling rate in hertz.
        channels: number of utterances by number of channels.
        read_as: how the structure of a folder was read, if it was detected.

    >>> from separative import load_corpus
    >>> report = check_corpus(load_corpus("speech"))
    >>> report.rates, report.channels, len(report.errors)
    ({16000: 16}, {1: 16}, 0)
    """

    problems: tuple[CorpusProblem, ...]
    total: CorpusSize
    by_corpus: dict[str, CorpusSize]
    rates: dict[int, int]
    channels: dict[int, int]
    read_as: str = ""

    @property
    def errors(self) -> tuple[CorpusProblem, ...]:
        return tuple(p for p in self.problems if p.kind == "error")

    @property
    def warnings(self) -> tuple[CorpusProblem, ...]:
        return tuple(p for p in self.problems if p.kind == "warning")


@dataclass(frozen=True, slots=True)
class _Measured:
    """Measurements of one decoded utterance.

    ``failure`` is the reason if it cannot be decoded, ``remark`` is what is wrong although it can be, and
    ``lost_db`` by how much the mean of its channels is weaker than the channels, if they cancel each other.
    """

    seconds: float = 0.0
    active: float = 0.0
    level: float = -math.inf
    digest: bytes = b""
    rate: int = 0
    channels: int = 0
    mean_of: int = 1
    lost_db: float | None = None
    failure: str = ""
    remark: str = ""


def check_corpus(
    corpus: Corpus, *, min_speech: float = MIN_SPEECH, progress: Progress | None = None
) -> CorpusReport:
    """Decode every utterance and report problems.

    Errors: a file that is unreadable, cut short, empty, silent or shorter than the manifest states; the same
    audio under two speakers; fewer than two speakers. Warnings: the same audio twice; a very low level;
    channels of opposite phase; a header that states less audio than the file holds; speakers with less than
    ``min_speech`` seconds of speech; names that differ only in capital letters or blanks; files of a folder
    that are left out; several sampling rates; several channels; no speaker labels.

    Args:
        min_speech: seconds of speech (:func:`active_seconds`) that each speaker should have.
        progress: called with (done, total) utterances.

    >>> from separative import load_corpus
    >>> report = check_corpus(load_corpus("speech"), min_speech=60.0)
    >>> [problem.kind for problem in report.problems]
    ['warning', 'warning', 'warning', 'warning']
    >>> report.total.speakers
    4
    """
    measured = map_in_threads(_measure, corpus.utterances, progress)
    problems = [
        *_utterance_problems(corpus, measured),
        *_duplicates(corpus, measured),
        *_speaker_problems(corpus, measured, min_speech),
        *_format_problems(measured),
        # The notes of a corpus include the names in all its splits.
        *(
            CorpusProblem("warning", "corpus", note)
            for note in dict.fromkeys([*corpus.notes, *twin_notes(corpus)])
        ),
    ]
    names = sorted({u.corpus for u in corpus})
    pairs = list(zip(corpus.utterances, measured, strict=True))
    return CorpusReport(
        problems=tuple(sorted(problems, key=lambda p: p.kind)),
        total=_size(pairs),
        by_corpus={name: _size([(u, m) for u, m in pairs if u.corpus == name]) for name in names},
        rates=dict(Counter(m.rate for m in measured if m.rate)),
        channels=dict(Counter(m.channels for m in measured if m.channels)),
        read_as=corpus.read_as,
    )


def active_seconds(wave: Wave, rate: int) -> float:
    """Return the seconds of speech in a waveform ``[N]``: 20 ms frames that pass :func:`audio.speech_gate`.

    Frames below -80 dB full scale never count.

    >>> wave, rate = audio.read("ann.wav")
    >>> 0.5 * len(wave) / rate < active_seconds(wave, rate) < len(wave) / rate
    True
    """
    frame = round(FRAME_SECONDS * rate)
    count = len(wave) // frame
    if count == 0:
        return 0.0
    power_T = np.square(wave[: count * frame].reshape(count, frame)).mean(axis=1)
    return float(audio.speech_gate(power_T, floor=10 ** (SILENT_DB / 10)).sum()) * FRAME_SECONDS


def _measure(utterance: Utterance) -> _Measured:
    remark = ""
    try:
        if utterance.path.is_file():
            if not audio.is_complete(utterance.path):
                return _Measured(failure="cut short: the file is shorter than its header states")
            remark = audio.remark(utterance.path)
        header = audio.info(utterance.path)
        mean_of = header.channels if utterance.channel is None else 1
        digest, phase = hashlib.blake2b(digest_size=16), audio.PhaseCheck()
        samples, active, power = 0, 0.0, 0.0
        for wave_N in _pieces(utterance, header.seconds, phase if mean_of > 1 else None):
            digest.update(wave_N.tobytes())
            samples += len(wave_N)
            active += active_seconds(wave_N, header.rate)
            power += float(np.square(wave_N, dtype=np.float64).sum())
    except AudioError as error:
        return _Measured(failure=str(error).removeprefix(f"{utterance.path}: "))
    except OSError as error:
        return _Measured(failure=f"cannot be read ({(error.strerror or str(error)).lower()})")
    level = 10.0 * math.log10(power / samples) if power > 0.0 else -math.inf
    return _Measured(
        seconds=samples / header.rate,
        active=active,
        level=level,
        digest=digest.digest(),
        rate=header.rate,
        channels=header.channels,
        mean_of=mean_of,
        lost_db=phase.lost_db(),
        remark=remark,
    )


def _pieces(utterance: Utterance, file_seconds: float, phase: audio.PhaseCheck | None) -> Iterator[Wave]:
    """Yield the audio of an utterance in pieces of one minute, to bound the memory.

    If its channels are averaged, ``phase`` measures whether they cancel each other.
    """
    end = min(utterance.start + utterance.seconds, file_seconds)
    start = utterance.start
    while True:
        seconds = min(PIECE_SECONDS, end - start)
        if phase is None:
            yield utterance.read(start=start - utterance.start, seconds=seconds)
        else:
            wave_CN, _ = audio.read(utterance.path, channels="each", start=start, seconds=seconds)
            wave_N = wave_CN.T.mean(axis=1)
            phase.add(wave_CN.T, wave_N)
            yield wave_N
        start += PIECE_SECONDS
        if start >= end:
            return


def _utterance_problems(corpus: Corpus, measured: list[_Measured]) -> Iterator[CorpusProblem]:
    for utterance, found in zip(corpus, measured, strict=True):
        where = str(utterance.path)
        if found.failure:
            yield CorpusProblem("error", where, found.failure)
            continue
        if found.remark:
            yield CorpusProblem("warning", where, found.remark)
        if found.lost_db is not None:
            cancelled = "its channels have opposite phase and cancel each other; use one channel"
            if found.level < SILENT_DB:
                yield CorpusProblem("error", where, f"silent: {cancelled}")
            else:
                weaker = f"the mean is {found.lost_db:.0f} dB weaker than the channels: {cancelled}"
                yield CorpusProblem("warning", where, weaker)
        elif found.level < SILENT_DB:
            silent = f"silent: level {found.level:.0f} dB, below {SILENT_DB:.0f} dB"
            yield CorpusProblem("error", where, silent)
        elif found.level < QUIET_DB:
            yield CorpusProblem("warning", where, f"very quiet: level {found.level:.0f} dB")
        if found.seconds < utterance.seconds - DURATION_TOLERANCE:
            short = f"the manifest states {utterance.seconds:.2f} s, the file holds {found.seconds:.2f} s"
            short += f" from {utterance.start:g} s on" if utterance.start else ""
            yield CorpusProblem("error", where, short)


def _duplicates(corpus: Corpus, measured: list[_Measured]) -> Iterator[CorpusProblem]:
    first: dict[bytes, Utterance] = {}
    for utterance, found in zip(corpus, measured, strict=True):
        # Two silent files have equal samples without being copies.
        if found.failure or found.level < SILENT_DB:
            continue
        other = first.setdefault(found.digest, utterance)
        if other is utterance:
            continue
        where, problem = str(utterance.path), f"the same audio as {other.path}"
        if other.speaker == utterance.speaker:
            yield CorpusProblem("warning", where, problem)
        else:
            speakers = f"{other.speaker or 'unlabelled'} and {utterance.speaker or 'unlabelled'}"
            yield CorpusProblem("error", where, f"{problem}, under {speakers}")


def _speaker_problems(
    corpus: Corpus, measured: list[_Measured], min_speech: float
) -> Iterator[CorpusProblem]:
    if all(u.category for u in corpus):
        return  # A corpus of noise has no speakers.
    active: dict[str, float] = defaultdict(float)
    for utterance, found in zip(corpus, measured, strict=True):
        if utterance.speaker is not None:
            active[utterance.speaker] += found.active
    if not active:
        unlabelled = "no speaker labels; train on it with mixtures.identity: recording"
        yield CorpusProblem("warning", "corpus", unlabelled)
    elif len(active) < 2:
        single = f"only one speaker ({next(iter(active))}); at least two are needed"
        yield CorpusProblem("error", "corpus", single)
    for speaker in sorted(active):
        if active[speaker] < min_speech:
            little = f"too little speech: {active[speaker]:.1f} s active, under {min_speech:g} s"
            yield CorpusProblem("warning", speaker, little)


def _format_problems(measured: list[_Measured]) -> Iterator[CorpusProblem]:
    rates = Counter(m.rate for m in measured if m.rate)
    if len(rates) > 1:
        listed = ", ".join(f"{rate} Hz ({count})" for rate, count in rates.most_common())
        yield CorpusProblem("warning", "corpus", f"several sampling rates, all are resampled: {listed}")
    several = sum(m.mean_of > 1 for m in measured)
    if several:
        problem = f"{several} utterances have several channels; their mean is used"
        yield CorpusProblem("warning", "corpus", problem)


def _size(pairs: list[tuple[Utterance, _Measured]]) -> CorpusSize:
    speakers = {u.speaker for u, _ in pairs if u.speaker is not None}
    return CorpusSize(len(speakers), len(pairs), sum(m.seconds for _, m in pairs) / 3600)
