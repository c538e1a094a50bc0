"""Quality of a stream for a comparison: net speech, signal-to-noise ratio, other speech and bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from separative.inference.recording import MIN_SPEECH_SECONDS, Recording, Stream
from separative.types import Floats, Wave

FRAME_SECONDS = 0.032
# Estimates of the signal-to-noise ratio stop here: above it, the pauses of a recording decide.
MOST_SNR_DB = 45.0
# Frames this far below the loud ones say nothing about the spectrum of speech.
LOUD_DB = 15.0
SPEECH_HZ, TREBLE_HZ = (300.0, 3400.0), (4000.0, 7500.0)
LEAST_TREBLE_DB = -60.0
NARROW_DB = -48.0
"""Treble below which a recording has the band of a telephone."""
MOST_SECONDS = 10.0


@dataclass(frozen=True)
class Quality:
    """What a recording offers for the comparison of a speaker.

    Attributes:
        speech_seconds: net speech of the stream.
        snr_db: level of the loudest tenth of frames above the quietest tenth, up to 45 dB.
        other_speech: speech of the other audible streams, as a share of ``speech_seconds``, up to 1.
        treble_db: power per hertz of 4 to 7.5 kHz relative to 300 to 3400 Hz in loud frames, from -60 dB; 0
            for a model with a lower sampling rate.

    >>> Quality(speech_seconds=3.0, snr_db=30.0, other_speech=0.0, treble_db=-60.0).narrow
    True
    """

    speech_seconds: float
    snr_db: float
    other_speech: float
    treble_db: float

    @property
    def narrow(self) -> bool:
        """Whether the recording has the band of a telephone."""
        return self.treble_db < NARROW_DB

    def vector(self) -> Floats:
        """The values in the order of :data:`separative.metrics.quality.QUALITIES` [Q], about 1 each.

        >>> Quality(1.0, 20.0, 0.5, -20.0).vector().tolist()
        [0.0, 1.0, 0.5, -1.0, 0.0]
        """
        seconds = min(max(self.speech_seconds, MIN_SPEECH_SECONDS), MOST_SECONDS)
        values = (np.log(seconds), self.snr_db / 20, self.other_speech, self.treble_db / 20, self.narrow)
        return np.array(values, np.float64)


def measure_noise_and_band(waveform: Wave, rate: int) -> tuple[float, float]:
    """Estimate signal-to-noise ratio and treble of a waveform [N] in dB, as in :class:`Quality`.

    >>> noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    >>> snr_db, treble_db = measure_noise_and_band(noise, 16000)
    >>> snr_db < 5, abs(treble_db) < 1
    (True, True)
    """
    size = round(FRAME_SECONDS * rate)
    wave_N = np.pad(waveform, (0, max(0, size - len(waveform))))
    wave_N = wave_N / max(float(np.sqrt(np.mean(wave_N**2))), 1e-9)
    frame_TW = np.lib.stride_tricks.sliding_window_view(wave_N, size)[:: size // 2]
    power_TF = np.abs(np.fft.rfft(frame_TW * np.hanning(size), axis=1)) ** 2
    hertz_F = np.fft.rfftfreq(size, 1 / rate)
    level_T = 10 * np.log10(power_TF[:, hertz_F > 80].sum(1) + 1e-6)
    quiet, loud = np.quantile(level_T, (0.1, 0.9))
    snr_db = float(min(loud - quiet, MOST_SNR_DB))
    if rate < 2 * TREBLE_HZ[0] * 1.2:
        return snr_db, 0.0
    mean_F = power_TF[level_T >= loud - LOUD_DB].mean(0) + 1e-12
    speech, treble = (
        mean_F[(hertz_F >= low) & (hertz_F < high)].mean() for low, high in (SPEECH_HZ, TREBLE_HZ)
    )
    return snr_db, float(np.clip(10 * np.log10(treble / speech), LEAST_TREBLE_DB, 0.0))


def stream_qualities(recording: Recording, waveform: Wave) -> dict[int, Quality]:
    """Quality of every audible stream of a recording, by the index of the stream.

    Args:
        waveform: the recording itself [N], at its rate.

    >>> import separative
    >>> from separative.inference.recording import load
    >>> recording = separative.embed(separative.load_model(), "ann.wav")
    >>> qualities = stream_qualities(recording, load("ann.wav", recording.rate).waveform)
    >>> quality = qualities[recording.speakers[0].stream]
    >>> quality.speech_seconds > 2, quality.narrow
    (True, False)
    """
    snr_db, treble_db = measure_noise_and_band(waveform, recording.rate)
    audible = recording.speakers
    return {s.stream: Quality(s.speech_seconds, snr_db, _others(s, audible), treble_db) for s in audible}


def _others(stream: Stream, audible: tuple[Stream, ...]) -> float:
    """Speech of the other streams as a share of that of the stream, up to 1."""
    others = sum(other.speech_seconds for other in audible if other is not stream)
    return min(1.0, others / max(stream.speech_seconds, MIN_SPEECH_SECONDS))
