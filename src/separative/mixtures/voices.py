"""The voices of one recording: a spectrum common to all speakers, and changes by head turns and distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.corpora.manifest import Utterance
from separative.corpora.store import WaveStore
from separative.mixtures.channel import EQ_KNOTS, EQ_LOW_HZ, Channel
from separative.types import Wave

# Speech of a speaker that his spectrum is measured on, and the samples of one of its frames.
SPECTRUM_SECONDS, SPECTRUM_FRAME = 30.0, 1024
# A spectrum is changed by at most this much; more would raise the noise of a narrow recording.
MOST_DB = 12.0
# A voice has one draw in this time, and changes linearly in between.
CHANGE_SECONDS = 1.5
# Treble is what is above this frequency, with 6 dB per octave.
TREBLE_HZ = 1500.0

Spectrum = npt.NDArray[np.float64]


def long_term_spectrum(store: WaveStore, utterances: tuple[Utterance, ...]) -> Spectrum:
    """Mean power of speech in dB at the knots of a channel [8], one octave apart from 90 Hz.

    At most 30 s of the first utterances count. Octaves above half of the sample rate have the power of the
    last octave below.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> long_term_spectrum(WaveStore(corpus, 16000), corpus.utterances[:2]).shape
    (8,)
    """
    left = round(SPECTRUM_SECONDS * store.rate)
    power_F = np.zeros(SPECTRUM_FRAME // 2 + 1)
    for utterance in utterances:
        take = min(left, store.length(utterance))
        frames = take // SPECTRUM_FRAME
        wave_TN = store.read(utterance, 0, frames * SPECTRUM_FRAME).reshape(frames, SPECTRUM_FRAME)
        # Pauses have little power, so that they need not be left out.
        power_F += (np.abs(fft.rfft(wave_TN * np.hanning(SPECTRUM_FRAME), axis=1)) ** 2).sum(0)
        left -= take
        if left <= 0:
            break
    hertz_F = np.arange(len(power_F)) * store.rate / SPECTRUM_FRAME
    power_B = np.zeros(EQ_KNOTS)
    for knot in range(EQ_KNOTS):
        middle = EQ_LOW_HZ * 2.0**knot
        inside_F = (hertz_F >= middle / 2**0.5) & (hertz_F < middle * 2**0.5)
        power_B[knot] = power_F[inside_F].mean() if middle < 0.5 * store.rate else power_B[knot - 1]
    return np.asarray(10.0 * np.log10(power_B + 1e-12))


def even_spectra(spectrum_db: npt.NDArray[np.float64]) -> tuple[Channel, ...]:
    """Channels of K speakers after which the long-term spectrum of each is the mean of all.

    The recordings of a corpus have a microphone for each speaker, and those of a room have one for all.
    Levels do not change. A gain is limited to 12 dB.

    Args:
        spectrum_db: spectra of :func:`long_term_spectrum` [K,8].

    >>> even_spectra(np.array([[0.0] * 8, [4.0] * 4 + [0.0] * 4]))[0].eq_db
    (1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0)
    """
    level_K1 = spectrum_db.mean(axis=1, keepdims=True)
    shape_KB = spectrum_db - level_K1
    gain_KB = np.clip(shape_KB.mean(axis=0) - shape_KB, -MOST_DB, MOST_DB)
    return tuple(Channel(tuple(row_B.round(2).tolist()), 0.0, None, None, "none") for row_B in gain_KB)


def vary_voice(
    waveform: Wave, rate: int, level_db: float, treble_db: float, rng: np.random.Generator
) -> Wave:
    """Change level and treble of speech [N], as if the speaker turned his head or moved.

    Both are drawn from normal distributions for every 1.5 s, and change linearly in between.

    Args:
        waveform: the speech.
        rate: sample rate in hertz.
        level_db: standard deviation of the level.
        treble_db: standard deviation of the level of what is above 1.5 kHz, relative to the rest.
        rng: random generator.

    >>> vary_voice(np.ones(9, np.float32), 16000, 0.0, 0.0, np.random.default_rng(0))[-1]
    np.float32(1.0)
    """
    step = round(CHANGE_SECONDS * rate)
    knots = len(waveform) // step + 3
    drawn_XK = rng.normal(0.0, [[level_db], [treble_db]], (2, knots))
    # The first draw comes at a random time before the first sample.
    time_N = np.arange(len(waveform)) / step + rng.random()
    level_N, treble_N = (
        (10.0 ** (np.interp(time_N, np.arange(knots), row_K) / 20.0)).astype(np.float32) for row_K in drawn_XK
    )
    from scipy import signal

    low_pass = signal.butter(1, min(TREBLE_HZ, 0.4 * rate), fs=rate, output="sos")
    low_N = signal.sosfilt(low_pass, waveform).astype(np.float32)
    varied_N: Wave = level_N * (low_N + treble_N * (waveform - low_N))
    return varied_N
