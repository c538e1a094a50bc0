"""The sources that a corpus provides, and crops of their speech of any length."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from separative import audio
from separative.corpora.manifest import Corpus, Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError
from separative.mixtures.config import MixtureConfig
from separative.types import Wave

CROP_TRIES = 4
# Number of speakers that count as most similar to a speaker.
SIMILAR = 10
JOIN_FADE_SECONDS = 0.005
# Index of an utterance, first sample, and the sample after the last.
Span = tuple[int, int, int]


@dataclass(frozen=True)
class SourcePool:
    """The sources of a corpus in a fixed order: its speakers, or its recordings with ``identity: recording``.

    Sources are numbered from 0. Unlabelled recordings, which can interfere but have no identity, have the
    numbers -1, -2, ... At S speeds, source k at speed number s has the identity number ``k * S + s``.

    Attributes:
        names: name of each source.
        utterances: utterances of each source.
        known: number of identities that an inventory has rows for. With ``unlabelled: presence``, those of
            the unlabelled recordings come after them.
        unlabelled: utterances of each unlabelled recording that only interferes.
        unlabelled_share: seconds of unlabelled speech over seconds of all speech. The same share of
            interferers is unlabelled.
        similar: numbers of the sources most similar to each labelled source [K,N], for ``mixtures.similar``;
            see :meth:`with_vectors`.

    >>> from separative import MixtureConfig, load_corpus
    >>> corpus = load_corpus("speech")
    >>> pool = SourcePool.from_corpus(corpus, MixtureConfig(batch=2), WaveStore(corpus, 16000))
    >>> pool.names == corpus.speakers
    True
    """

    names: tuple[str, ...]
    utterances: tuple[tuple[Utterance, ...], ...]
    known: int
    unlabelled: tuple[tuple[Utterance, ...], ...]
    unlabelled_share: float
    similar: npt.NDArray[np.int64] | None = None

    @staticmethod
    def from_corpus(corpus: Corpus, config: MixtureConfig, store: WaveStore) -> SourcePool:
        """Collect the sources that a configuration uses, without the files that ``store`` could not decode.

        Raises:
            CorpusError: the corpus has fewer sources than a mixture has speakers, or fewer identities than a
                training step has condition groups.
        """
        good = corpus.filter(lambda u: u.path not in store.bad and _is_chosen(u, config))
        unlabelled = good.filter(lambda u: u.speaker is None).identities("recording")
        if config.identity != "speaker":
            kept = good if config.unlabelled != "drop" else good.filter(lambda u: u.speaker is not None)
            labelled = kept.identities(config.identity)
            known, unlabelled = len(labelled), {}
        else:
            labelled = dict(good.identities("speaker"))
            known = len(labelled)
            if config.unlabelled in ("identity", "presence"):
                labelled |= unlabelled
            if config.unlabelled == "identity":
                known = len(labelled)
            if config.unlabelled != "interfere":
                unlabelled = {}
        labelled_seconds, unlabelled_seconds = (
            sum(u.seconds for utterances in sources.values() for u in utterances)
            for sources in (labelled, unlabelled)
        )
        pool = SourcePool(
            names=tuple(labelled),
            utterances=tuple(labelled.values()),
            known=known * len(config.speeds),
            unlabelled=tuple(unlabelled.values()),
            unlabelled_share=(
                unlabelled_seconds / (labelled_seconds + unlabelled_seconds) if unlabelled else 0.0
            ),
        )
        pool._check(config)
        return pool

    def utterances_of(self, source: int) -> tuple[Utterance, ...]:
        """Utterances of a source, or of an unlabelled recording if the number is negative."""
        return self.utterances[source] if source >= 0 else self.unlabelled[-1 - source]

    def with_vectors(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> SourcePool:
        """The same sources, with the most similar ones of each by the mean of the vectors of its utterances.

        Args:
            vectors: unit norm vectors [T] by id of the utterance. Sources without any are similar to none.

        >>> from separative import MixtureConfig, load_corpus
        >>> corpus = load_corpus("speech")
        >>> pool = SourcePool.from_corpus(corpus, MixtureConfig(batch=2), WaveStore(corpus, 16000))
        >>> vectors = {u.id: np.eye(2, dtype=np.float32)[i % 2] for i, u in enumerate(corpus)}
        >>> pool.with_vectors(vectors).similar.shape[0] == len(pool.names)
        True
        """
        size = len(next(iter(vectors.values())))
        mean_KT = np.zeros((len(self.names), size), np.float32)
        for row, utterances in enumerate(self.utterances):
            for utterance in utterances:
                mean_KT[row] += vectors.get(utterance.id, 0.0)
        mean_KT -= mean_KT.mean(axis=0)
        mean_KT /= np.maximum(np.linalg.norm(mean_KT, axis=1, keepdims=True), 1e-12)
        cosine_KK = mean_KT @ mean_KT.T
        np.fill_diagonal(cosine_KK, -np.inf)
        nearest_KN = np.argsort(-cosine_KK, axis=1, kind="stable")[:, : min(SIMILAR, len(self.names) - 1)]
        return replace(self, similar=nearest_KN)

    def _check(self, config: MixtureConfig) -> None:
        kind = "speakers" if config.identity == "speaker" else "recordings"
        most = max(max(i for i, share in enumerate(s.speakers, 1) if share > 0) for s in config.stages)
        if len(self.names) < most:
            raise CorpusError(
                f"the corpus has {len(self.names)} {kind}, but mixtures of {most} speakers need {most}: "
                "add speakers or shorten 'speakers' in mixtures.stages"
            )
        groups = max(config.batch // stage.views for stage in config.stages)
        identities = len(self.names) * len(config.speeds)
        if identities < groups:
            raise CorpusError(
                f"the corpus has {identities} identities ({len(self.names)} {kind} at {len(config.speeds)} "
                f"speeds), but a step needs {groups} different targets: lower mixtures.batch or raise views"
            )


def _is_chosen(utterance: Utterance, config: MixtureConfig) -> bool:
    """Whether the speaker, or the recording, of an utterance is in the share of the corpus to use."""
    if config.share == 1.0:
        return True
    by_speaker = config.identity == "speaker" and utterance.speaker is not None
    name = str(utterance.speaker) if by_speaker else f"{utterance.path.parent.name}/{utterance.path.name}"
    return zlib.crc32(name.encode(errors="surrogateescape")) < config.share * 2**32


def part_of_speech(
    store: WaveStore,
    utterances: tuple[Utterance, ...],
    order: npt.NDArray[np.int64],
    part: int,
    parts: int,
    need: int,
) -> list[Span]:
    """One of several parts of equal length of a source's speech, which do not overlap.

    Args:
        store: decoded audio.
        utterances: all utterances of the source.
        order: indices into ``utterances``, the order in which they are divided.
        part: number of the part, from 0.
        parts: number of parts.
        need: shortest length of a part in samples.

    Returns:
        The spans of the part: index of the utterance, first sample, and the sample after the last. Spans
        that are long enough alone come first. No spans if the parts would be too short.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> store, speech = WaveStore(corpus, 16000), corpus.utterances[:1]
    >>> half = store.length(speech[0]) // 2
    >>> part_of_speech(store, speech, np.array([0]), 1, 2, 8000) == [(0, half, 2 * half)]
    True
    """
    lengths = [store.length(utterances[i]) for i in order]
    size = sum(lengths) // parts
    spans: list[Span] = []
    begin = -part * size  # of an utterance, relative to the part
    for index, length in zip(order.tolist(), lengths, strict=True):
        low, high = max(0, -begin), min(length, size - begin)
        if low < high and size >= need:
            spans.append((index, low, high))
        begin += length
    return sorted(spans, key=lambda span: span[2] - span[1] < need)


def crop_speech(
    store: WaveStore,
    utterances: tuple[Utterance, ...],
    order: Iterable[int | Span],
    samples: int,
    speed: float,
    min_speech: float,
    rng: np.random.Generator,
) -> tuple[Wave, list[dict[str, Any]]]:
    """Cut speech of a given length from the utterances of one source.

    The first utterance in ``order`` is cropped if it is long enough. Otherwise it is joined with the next
    ones, each faded in and out over 5 ms. If all utterances together are too short, zeros are added before
    and after the speech, in random proportion.

    Args:
        store: decoded audio.
        utterances: all utterances of the source.
        order: indices into ``utterances`` or spans of them, in the order in which they are tried.
        samples: length of the result.
        speed: playback speed. Above 1, more speech is read and played faster, which also raises the pitch.
        min_speech: see :func:`crop_start`.
        rng: random generator.

    Returns:
        Float32 [samples], and utterance, start and length in samples of each crop.

    Raises:
        CorpusError: none of the utterances can be read.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> speech, rng = corpus.utterances[:1], np.random.default_rng(0)
    >>> waveform, crops = crop_speech(WaveStore(corpus, 16000), speech, [0], 8000, 1.0, 0.3, rng)
    >>> len(waveform), crops[0]["utterance"] == speech[0].id
    (8000, True)
    """
    need = round(samples * speed) if speed != 1.0 else samples
    crops: list[dict[str, Any]] = []
    waves: list[Wave] = []
    missing = need
    for entry in order:
        index, low, high = entry if isinstance(entry, tuple) else (entry, 0, store.length(utterances[entry]))
        utterance = utterances[index]
        if high == low:
            continue
        take = min(high - low, missing)
        start = crop_start(store, utterance, take, min_speech, rng, low, high)
        waves.append(store.read(utterance, start, take))
        crops.append({"utterance": utterance.id, "start": start, "samples": take})
        missing -= take
        if missing == 0:
            break
    if not waves:
        raise CorpusError(
            f"{utterances[0].path}: no utterance of this speaker can be read; remove the speaker"
        )
    if len(waves) > 1 or missing:
        fade = np.linspace(0.0, 1.0, round(JOIN_FADE_SECONDS * store.rate), dtype=np.float32)
        for wave in waves:
            edge = min(len(fade), len(wave) // 2)
            wave[:edge] *= fade[:edge]
            wave[len(wave) - edge :] *= fade[:edge][::-1]
        before = int(rng.integers(missing + 1))
        waves = [np.zeros(before, np.float32), *waves, np.zeros(missing - before, np.float32)]
    wave_N = np.concatenate(waves) if len(waves) > 1 else waves[0]
    if speed == 1.0:
        return wave_N, crops
    played_N = audio.resample(wave_N, round(store.rate * speed), store.rate)
    # The resampled length may be off by one sample: cut it or add a zero.
    return np.pad(played_N[:samples], (0, max(0, samples - len(played_N)))), crops


def crop_start(
    store: WaveStore,
    utterance: Utterance,
    take: int,
    min_speech: float,
    rng: np.random.Generator,
    low: int = 0,
    high: int | None = None,
) -> int:
    """Choose the first sample of a crop of ``take`` samples between ``low`` and ``high``.

    A few random places are tried. The first one with a share of at least ``min_speech`` active frames is
    chosen, or else the best. If none has speech, the crop is placed around a random active frame.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> store, utterance = WaveStore(corpus, 16000), corpus.utterances[0]
    >>> crop_start(store, utterance, store.length(utterance), 0.3, np.random.default_rng(0))
    0
    """
    length = (store.length(utterance) if high is None else high) - low
    if length == take:
        return low
    best, best_share = low, -1.0
    for start in low + rng.integers(length - take + 1, size=CROP_TRIES):
        frames = store.active(utterance, int(start), take)
        share = float(frames.mean()) if len(frames) else 0.0
        if share > best_share:
            best, best_share = int(start), share
        if share >= min_speech:
            break
    if best_share == 0.0:
        # The utterance is mostly silent, or the crop is shorter than a frame.
        speech = np.flatnonzero(store.active(utterance, low, length))
        if len(speech):
            centre = low + int(rng.choice(speech)) * store.hop + store.hop // 2
            best = min(max(centre - take // 2, low), low + length - take)
    return best
