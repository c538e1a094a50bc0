"""Measure the waveforms of ``diarize --original-rate``: what they add up to, and where high frequencies go.

    python benchmarks/bench_voices.py base --data DATA

Conversations of speakers of the split dev, in two channels at 44.1 kHz. The corpora end at 8 kHz, so each
speaker gets noise from 9 to 15 kHz that follows the level of the speech, and a gain in each channel.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import butter, sosfiltfilt

import separative
from common import made_on, table, write_page
from separative import audio
from separative.corpora import load_corpus
from separative.evaluation.references import FRAME
from separative.inference.separated import original_waveforms, speaker_waveforms, turn_gate
from separative.metrics import match_speakers, si_sdr
from separative.mixtures import ConversationConfig, ConversationSimulator
from separative.rttm import turns_to_frames

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "voices.md"
RATE, SEED, GAINS = 44100, 26, ((1.0, 0.4), (0.4, 1.0))
BAND_HZ, HIGH_DB = (9000.0, 15000.0), -20.0


def widen(source_KN: np.ndarray, rate: int) -> np.ndarray:
    """Sources [K, N] as recorded in two channels at RATE [K, 2, M], with noise above the band."""
    rng = np.random.default_rng(SEED)
    filters = butter(6, BAND_HZ, "bandpass", fs=RATE, output="sos")
    smooth = butter(2, 20.0, fs=RATE, output="sos")
    wide = []
    for k, source_N in enumerate(source_KN):
        low_M = audio.resample(source_N, rate, RATE)
        level_M = np.sqrt(np.maximum(sosfiltfilt(smooth, low_M**2), 0))
        high_M = sosfiltfilt(filters, rng.standard_normal(len(low_M)))
        high_M *= 10 ** (HIGH_DB / 20) / high_M.std() * level_M
        wide.append(np.array(GAINS[k % 2])[:, None] * (low_M + high_M))
    return np.array(wide, np.float32)


def band(wave: np.ndarray, low: float, high: float) -> np.ndarray:
    """The part of waveforms [..., M] between two frequencies."""
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(wave.shape[-1], 1 / RATE)
    return np.fft.irfft(spectrum * ((hertz >= low) & (hertz < high)), n=wave.shape[-1])


def decibels(whole: np.ndarray, part: np.ndarray) -> float:
    """Power of ``whole`` over that of ``part``."""
    return float(10 * np.log10(np.mean(whole**2) / max(np.mean(part**2), 1e-20)))


def measure(model: SeparativeEncoder, talk: object) -> dict[str, float]:
    """Figures of one conversation, in dB."""
    _, source_KN = talk.render(0, talk.samples)
    true_KCM = widen(source_KN, talk.rate)
    mix_CM = true_KCM.sum(0)
    found = separative.diarize(model, (mix_CM, RATE))
    voice_KCM = np.concatenate(list(original_waveforms(model, found)), axis=-1)
    second_M = np.arange(mix_CM.shape[1]) / RATE
    turns_KM = np.array([turn_gate(found, speaker, second_M) > 0 for speaker in found.speakers])
    any_M = turns_KM.any(0)
    low = band(mix_CM, 0, 7000)
    missing = band(mix_CM - voice_KCM.sum(0), 0, 7000)
    high = band(voice_KCM, *BAND_HZ)
    inside, outside = (
        np.concatenate([high[k][:, turns_KM[k] == where].ravel() for k in range(len(high))])
        for where in (True, False)
    )
    # The separation itself, at the model's rate: as usual, and from the waveforms at the own rate.
    frames = round(talk.samples / talk.rate / FRAME)
    reference = turns_to_frames(talk.speech_turns(), talk.names, frames, FRAME)
    activity = turns_to_frames(found.turns, [s.name for s in found.speakers], frames, FRAME)
    usual_KN = np.concatenate(list(speaker_waveforms(model, found)), axis=-1)
    gains = []
    for k, c in zip(*match_speakers(reference, activity), strict=True):
        own_N = audio.resample(voice_KCM[c].mean(0), RATE, talk.rate)
        true_N = audio.resample(true_KCM[k].mean(0), RATE, talk.rate)
        size = min(len(own_N), len(true_N), usual_KN.shape[1])
        gains.append([float(si_sdr(x[:size], true_N[:size])) for x in (usual_KN[c], own_N)])
    usual, own = np.mean(gains, axis=0)
    return {
        "sum against the recording below 7 kHz, in turns": decibels(low[:, any_M], missing[:, any_M]),
        "high band: inside against outside the speaker's turns": decibels(inside, outside),
        "SI-SDR at the model's rate, default": usual,
        "SI-SDR at the model's rate, from --original-rate": own,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--count", type=int, default=6, help="number of conversations of 30 s")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    started, model = time.process_time(), separative.load_model(args.model)
    corpus = load_corpus(args.data / "speech.csv").split("dev").readable
    corpus = corpus.filter(lambda utterance: utterance.speaker is not None)
    config = ConversationConfig(rate=model.rate, seconds=30.0, speakers=2, overlap=0.2)
    simulator = ConversationSimulator(corpus, config, seed=SEED)
    figures = [measure(model, simulator.conversation(number)) for number in range(args.count)]
    rows = []
    for name in figures[0]:
        values = [one[name] for one in figures]
        rows.append([name, f"{np.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}"])
    lines = [
        "# Waveforms at the rate of the recording",
        "",
        *made_on([os.getloadavg()[0]], "torch", "numpy"),
        f"Model `{args.model}`, {args.count} conversations of 30 s with two speakers, two channels at"
        f" {RATE} Hz, seed {SEED}; {time.process_time() - started:.0f} s of CPU.",
        "",
        *table(["dB", "median", "lowest", "highest"], rows),
    ]
    write_page(str(args.page), lines, [])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
