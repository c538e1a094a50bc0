"""Long-term spectra of training mixtures without and with nuisances, compared with real recordings.

    python benchmarks/bench_spectra.py --data DATA            # rewrites docs/benchmarks/spectra.md
    python benchmarks/bench_spectra.py --data DATA --page -   # prints the page

DATA holds ``meetings.csv``, ``speech.csv`` and ``noise.csv``.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common import PAGES, made_on, table

RATE = 16000
EDGES_HZ = (5, 31, 62, 125, 250, 500, 1000, 2000, 4000, 8000)
NAMES = ("< 31", "31–62", "62–125", "125–250", "250–500", "500–1k", "1–2k", "2–4k", "4–8k")
SPEAKERS, UTTERANCES, CLIPS, MIXTURES = 60, 3, 40, 320
FRAME = 2048


def bands_db(wave_N: np.ndarray) -> list[float]:
    """Mean power of a bin in each band relative to the total, in dB, without frames 20 dB below the loud."""
    frame_TN = np.lib.stride_tricks.sliding_window_view(wave_N, FRAME)[:: FRAME // 2]
    power_T = np.mean(frame_TN**2, axis=1)
    loud_TN = frame_TN[power_T >= 0.01 * np.quantile(power_T, 0.95)]
    power_F = np.mean(np.abs(np.fft.rfft(loud_TN * np.hanning(FRAME), axis=1)) ** 2, axis=0)
    power_F /= max(power_F.sum(), 1e-20)
    hertz_F = np.fft.rfftfreq(FRAME, 1 / RATE)
    edges = itertools.pairwise(EDGES_HZ)
    return [float(10 * np.log10(power_F[(hertz_F >= a) & (hertz_F < b)].mean() + 1e-12)) for a, b in edges]


def row(name: str, waves: list[np.ndarray], share: float) -> list[str]:
    """A line of the table: the range of each band and of the level, without a ``share`` at both ends."""
    levels = [10 * np.log10(np.mean(wave_N**2) + 1e-12) for wave_N in waves]
    columns = [*zip(*(bands_db(wave_N) for wave_N in waves), strict=True), levels]
    ranges = (np.quantile(column, (share, 1 - share)) for column in columns)
    return [name, str(len(waves)), *(f"{low:.0f}…{high:.0f}" for low, high in ranges)]


def recordings(data: Path) -> dict[str, list[np.ndarray]]:
    """The real recordings by kind."""
    from separative import audio

    found: dict[str, list[np.ndarray]] = {}
    with (data / "meetings.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            wave_N = audio.read(data / line["path"], RATE)[0]
            found.setdefault(line["kind"], []).append(wave_N)
    return found


def mixtures(data: Path, recipe: str, cache: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Kind of microphone and waveform of mixtures of some training speakers."""
    from separative import load_corpus
    from separative.corpora import Corpus
    from separative.mixtures import Mixer
    from separative.training import load_recipe

    speech, noise = (load_corpus(data / f"{name}.csv", split="train") for name in ("speech", "noise"))
    by_speaker = speech.by_speaker
    names = np.random.default_rng(0).choice(sorted(by_speaker), SPEAKERS, replace=False)
    few = Corpus(tuple(u for name in names for u in by_speaker[name][:UTTERANCES]))
    clips = Corpus(tuple(noise)[:CLIPS])
    # Mixtures without a speaker have no spectrum of speech.
    config = load_recipe(recipe, ["mixtures.rooms=0", "mixtures.batch=32", "mixtures.empty=0"]).mixtures
    mixer = Mixer(few, config, seed=1, noise=clips, cache=cache)
    for index in range(MIXTURES):
        mixture = mixer.mixture(index)
        microphone = (mixture.info.get("nuisances") or {}).get("microphone")
        yield microphone["kind"] if microphone else "none", mixture.waveform


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with meetings.csv, speech.csv, noise.csv"
    )
    parser.add_argument("--page", default=str(PAGES / "spectra.md"), help="page to write; - prints it")
    args = parser.parse_args()
    rows = [row(f"real: {kind}", waves, 0.0) for kind, waves in recordings(args.data).items()]
    with tempfile.TemporaryDirectory() as folder:
        for recipe in ("base-longer", "wide"):
            made = list(mixtures(args.data, recipe, Path(folder)))
            rows.append(row(f"`{recipe}`", [wave_N for _, wave_N in made], 0.05))
            kinds = sorted({kind for kind, _ in made})
            for kind in kinds if len(kinds) > 1 else ():
                waves = [wave_N for other, wave_N in made if other == kind]
                rows.append(row(f"`{recipe}`, microphone: {kind}", waves, 0.05))
    page = [
        "# Spectra of training mixtures and of real recordings",
        "",
        "Long-term spectra: power of a bin in decibels relative to the total, as the mean of each band in",
        "hertz, and the level in dBFS. Real recordings have their whole range, mixtures of recipes the range",
        "from 5 to 95 %.",
        "",
        *made_on([os.getloadavg()[0]], "numpy", "scipy"),
        "",
        *table(["what", "number", *NAMES, "level"], rows),
        "",
        "The recipe `wide` has the nuisances of real recordings ([training](../train.md)); `base-longer` is",
        "the last one of the shipped model.",
        f"Mixtures of {SPEAKERS} training speakers, seed 1.",
        "Made by `python benchmarks/bench_spectra.py --data DATA`.",
        "",
    ]
    if args.page == "-":
        print("\n".join(page))
    else:
        Path(args.page).write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
