"""The speech of a turn, joined from spoken parts of utterances; synthetic breaths and laughs."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from separative.corpora.manifest import Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError
from separative.mixtures.gains import power
from separative.types import Wave

FADE_SECONDS = 0.005
# Kept before the first and after the last frame with speech of an utterance.
MARGIN_SECONDS = 0.03
# A breath is noise around these frequencies; a laugh is bursts of a harmonic tone with noise.
BREATH_HZ, LAUGH_HZ = (400.0, 3500.0), (180.0, 400.0)
BURSTS_PER_SECOND = (3.5, 6.0)


class Phrase(NamedTuple):
    """A part of an utterance inside a turn.

    Attributes:
        utterance: where it comes from.
        start: its first sample in the utterance.
        samples: its length.
        at: its first sample in the turn.

    >>> from separative import load_corpus
    >>> Phrase(load_corpus("speech").utterances[0], start=1600, samples=8000, at=0).samples
    8000
    """

    utterance: Utterance
    start: int
    samples: int
    at: int


def cut_phrases(
    store: WaveStore,
    utterances: tuple[Utterance, ...],
    samples: int,
    breaks: tuple[float, float],
    rng: np.random.Generator,
) -> list[Phrase]:
    """Choose speech for a turn of ``samples`` samples from the utterances of a speaker.

    The utterances come in random order, without the silence before and after their speech, and are used
    again if they are too short together. ``breaks`` are the shortest and longest pause between them. The
    last one is cut; a short turn is cut from a random place.

    Raises:
        CorpusError: none of the utterances has speech.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> store, utterances = WaveStore(corpus, 16000), corpus.utterances[:2]
    >>> phrases = cut_phrases(store, utterances, 40000, (0.1, 0.3), np.random.default_rng(0))
    >>> phrases[-1].at < 40000 and phrases[-1].at + phrases[-1].samples <= 40000
    True
    """
    spoken = [(u, active) for u in utterances if len(active := _spoken_samples(store, u))]
    if not spoken:
        raise CorpusError(
            f"{utterances[0].path}: no utterance of this speaker has speech; remove the speaker"
        )
    phrases: list[Phrase] = []
    margin = round(MARGIN_SECONDS * store.rate)
    at = 0
    while at < samples:
        for index in rng.permutation(len(spoken)).tolist():
            utterance, active = spoken[index]
            start = max(0, int(active[0]) - margin)
            end = min(store.length(utterance), int(active[-1]) + store.hop + margin)
            take = min(end - start, samples - at)
            # A phrase that is cut begins with speech, at a random place.
            if take < end - start:
                start = int(rng.choice(active[active <= max(end - take, active[0])]))
                take = min(take, store.length(utterance) - start)
            phrases.append(Phrase(utterance, start, take, at))
            at += take + round(rng.uniform(*breaks) * store.rate)
            if at >= samples:
                break
    return phrases


def read_phrases(store: WaveStore, phrases: list[Phrase], samples: int) -> Wave:
    """The speech of a turn, float32 ``[samples]``; each phrase is faded in and out over 5 ms.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> store = WaveStore(corpus, 16000)
    >>> read_phrases(store, [Phrase(corpus.utterances[0], 0, 8000, 100)], 9000).shape
    (9000,)
    """
    wave_N = np.zeros(samples, np.float32)
    fade = np.linspace(0.0, 1.0, round(FADE_SECONDS * store.rate), dtype=np.float32)
    for phrase in phrases:
        part_N = store.read(phrase.utterance, phrase.start, phrase.samples)
        edge = min(len(fade), len(part_N) // 2)
        part_N[:edge] *= fade[:edge]
        part_N[len(part_N) - edge :] *= fade[:edge][::-1]
        wave_N[phrase.at : phrase.at + phrase.samples] += part_N
    return wave_N


def _spoken_samples(store: WaveStore, utterance: Utterance) -> npt.NDArray[np.int64]:
    """First sample of each 10 ms frame with speech."""
    return (
        np.flatnonzero(store.active(utterance)) * store.hop if store.length(utterance) else np.zeros(0, int)
    )


def make_sound(kind: Literal["breath", "laugh"], samples: int, rate: int, rng: np.random.Generator) -> Wave:
    """Synthesise a breath or a laugh: float32 ``[samples]`` with an RMS of 1.

    A breath is band-limited noise that rises and falls. A laugh is a row of short bursts: harmonic tones
    of falling pitch, mixed with noise.

    >>> make_sound("laugh", 8000, 16000, np.random.default_rng(0)).shape
    (8000,)
    """
    time_N = np.arange(samples) / rate
    noise_N = rng.standard_normal(samples)
    if kind == "breath":
        from scipy import signal

        band = signal.butter(2, [BREATH_HZ[0], min(BREATH_HZ[1], 0.45 * rate)], "band", fs=rate, output="sos")
        wave_N = signal.sosfilt(band, noise_N) * np.sin(np.pi * (np.arange(samples) + 0.5) / samples)
    else:
        pace = rng.uniform(*BURSTS_PER_SECOND)
        phase_N = (time_N * pace) % 1.0
        pitch_N = rng.uniform(*LAUGH_HZ) * (1.1 - 0.3 * phase_N) * (1.0 - 0.1 * time_N)
        turn_N = 2 * np.pi * np.cumsum(pitch_N) / rate
        highest = max(1, min(8, int(0.4 * rate / LAUGH_HZ[1])))
        tone_N = sum(np.sin(k * turn_N) / k for k in range(1, highest + 1))
        burst_N = np.clip(np.sin(np.pi * np.minimum(phase_N / 0.6, 1.0)), 0.0, None) * np.exp(-0.5 * time_N)
        wave_N = (tone_N + rng.uniform(0.3, 1.0) * noise_N) * burst_N
    return np.asarray(wave_N / max(power(wave_N.astype(np.float32)) ** 0.5, 1e-9), np.float32)
