"""Dependence of the diarization of real recordings on leading silence, and speech found in noise.

    python benchmarks/bench_robustness.py --data DATA   # rewrites docs/benchmarks/robustness.md

DATA holds ``meetings.csv``, ``speech.csv`` and ``noise.csv``. Runs the shipped model.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import Record, arguments, made_on, parsed, run_child, table, write_page

if TYPE_CHECKING:
    from separative.types import Wave

RATE, FRAME = 16000, 0.01
SHIFTS = (0, 112, 240, 416, 640)
LEVELS_DB = (-90, -60, -30)
NOISE_SECONDS = 60


def diarized(model: object, wave_N: Wave, shift: int, frames: int) -> np.ndarray:
    """Activity [K, T] of the speakers found with ``shift`` samples of silence in front, times of the file."""
    import separative
    from separative.rttm import Turn, turns_to_frames

    shifted_N = np.concatenate([np.zeros(shift, np.float32), wave_N])
    result = separative.diarize(model, (shifted_N, RATE))
    turns = [Turn(t.speaker, max(0, t.start - shift / RATE), t.end - shift / RATE) for t in result.turns]
    return turns_to_frames(turns, sorted({t.speaker for t in turns}), frames, FRAME)


def compare(one: np.ndarray, other: np.ndarray) -> float:
    """Diarization error of one answer against another; two answers without speakers agree."""
    from separative.metrics import diarization_error

    if not one.any():
        return float(other.any())
    return diarization_error(one, other, FRAME).rate


def measure_shifts(case: Record) -> Record:
    """Changes of the number of speakers and of the turns of every real recording by leading silence."""
    import separative
    from separative import audio
    from separative.evaluation import read_references

    model = separative.load_model()
    found: Record = {}
    for recording in read_references(Path(case["data"]) / "meetings.csv")[0]:
        wave_N = audio.read(recording.path, RATE)[0]
        answers = [diarized(model, wave_N, shift, recording.frames) for shift in SHIFTS]
        pairs = list(itertools.combinations(answers, 2))
        found[recording.name] = {
            "count_changes": float(np.mean([len(a) != len(b) for a, b in pairs])),
            "between": [compare(a, b) for a, b in pairs],
        }
    return found


def noises(data: Path) -> dict[str, Wave]:
    """A minute of every kind of noise, of synthetic music and of silence, with a peak of 1."""
    from separative import audio

    clips = defaultdict(list)
    with (data / "noise.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            clips[row["category"]].append(data / row["path"])
    found = {}
    for category, paths in sorted(clips.items()):
        wave_N = np.concatenate([audio.read(path, RATE)[0] for path in paths[:12]])
        found[category] = wave_N[: NOISE_SECONDS * RATE]
    rng, time_N = np.random.default_rng(0), np.arange(NOISE_SECONDS * RATE) / RATE
    found["white noise"] = rng.standard_normal(len(time_N))
    brown_N = np.cumsum(rng.standard_normal(len(time_N)))
    found["room tone (noise falling by 6 dB per octave)"] = brown_N - np.convolve(
        brown_N, np.ones(2000) / 2000, "same"
    )
    chords_N = sum(
        np.sin(2 * np.pi * f * time_N) * np.clip(np.sin(np.pi * time_N + f), 0, 1)
        for f in (220, 277, 330, 440)
    )
    found["music: held chords"] = chords_N
    notes = [220 * 2 ** (rng.integers(0, 24) / 12) for _ in range(2 * NOISE_SECONDS)]
    note_N = np.arange(RATE // 2) / RATE
    found["music: plucked melody"] = np.concatenate(
        [
            sum(np.sin(2 * np.pi * f * h * note_N) / h for h in range(1, 8)) * np.exp(-3 * note_N)
            for f in notes
        ]
    )
    found["digital silence but for one sample"] = np.eye(1, len(time_N))[0]
    return {name: (w / max(np.abs(w).max(), 1e-9)).astype(np.float32) for name, w in found.items()}


def measure_noise(case: Record) -> Record:
    """Seconds of speech found in a minute of noise, by kind and peak level."""
    import separative

    model = separative.load_model()
    found: Record = {}
    for name, wave_N in noises(Path(case["data"])).items():
        found[name] = []
        for level_db in LEVELS_DB:
            result = separative.diarize(model, (wave_N * np.float32(10 ** (level_db / 20)), RATE))
            found[name].append(sum(speaker.speech_seconds for speaker in result.speakers))
    return found


def measure_presence(case: Record) -> Record:
    """Share of recordings of one speaker (4 s, split dev) with 0, 1 and 2 audible streams."""
    import separative
    from separative import audio
    from separative.corpora import load_corpus

    data, size = Path(case["data"]), 4 * RATE
    model, rng = separative.load_model(), np.random.default_rng(0)
    noise = [w for name, w in noises(data).items() if "music" not in name and "digital" not in name]
    found: Record = {"clean": [], "noise at 5 dB": []}
    for utterances in load_corpus(data / "speech.csv", split="dev").by_speaker.values():
        wave_N = np.concatenate([audio.read(u.path, RATE)[0] for u in utterances[:8]])
        for first in range(0, min(len(wave_N) - size, 3 * size), size):
            piece_N = wave_N[first : first + size]
            clip_N = noise[rng.integers(len(noise))]
            start = int(rng.integers(len(clip_N) - size))
            clip_N = clip_N[start : start + size]
            gain = np.sqrt((piece_N**2).mean() / max((clip_N**2).mean(), 1e-12)) * 10 ** (-5 / 20)
            for name, mix_N in (("clean", piece_N), ("noise at 5 dB", piece_N + gain * clip_N)):
                speakers = separative.separate(model, (mix_N.astype(np.float32), RATE)).speakers
                found[name].append(len(speakers))
    return found


def measure(case: Record) -> Record:
    """The part of the measurements that ``case`` names."""
    parts = {"shifts": measure_shifts, "noise": measure_noise, "presence": measure_presence}
    return parts[case["part"]](case)


def main() -> None:
    parser = arguments(__doc__, "robustness.md", runs=1, rounds=1)
    parser.add_argument("--data", help="folder with meetings.csv, speech.csv and noise.csv")
    args = parsed(parser, measure, needed=["data"])
    shifts, noise, presence = (
        run_child(__file__, {"part": part, "data": args.data}) for part in ("shifts", "noise", "presence")
    )
    between = [x for r in shifts.values() for x in r["between"]]
    above = 100 * np.mean(np.array(between) > 0.05)
    changes = float(np.mean([r["count_changes"] for r in shifts.values()]))
    lines = [
        "# Robustness: leading silence, noise",
        "",
        *made_on([os.getloadavg()[0]], "torch"),
        "",
        "## Leading silence",
        "",
        f"The {len(shifts)} recordings with {', '.join(map(str, SHIFTS))} samples of silence in front"
        f" (up to {1000 * max(SHIFTS) / RATE:.0f} ms). The number of speakers changes in"
        f" {100 * changes:.1f} % of the pairs. The diarization error between two answers is"
        f" {np.mean(between):.3f} on average and above 0.05 in {above:.0f} %"
        f" of the pairs; the largest is {max(between):.2f}.",
        "",
        "## One speaker as two",
        "",
        "Pieces of 4 s of one speaker each, by the number of speakers that `separate` finds.",
        "",
        *table(
            ["pieces", "number", "none, %", "one, %", "two, %"],
            [
                [name, str(len(counts)), *(f"{100 * np.mean(np.array(counts) == k):.1f}" for k in range(3))]
                for name, counts in presence.items()
            ],
        ),
        "",
        "## Speech found in noise",
        "",
        "Seconds per minute, by peak level in dB of full scale.",
        "",
        *table(["noise", *map(str, LEVELS_DB)], [[n, *(f"{s:.1f}" for s in v)] for n, v in noise.items()]),
    ]
    write_page(args.page, lines, [])


if __name__ == "__main__":
    main()
